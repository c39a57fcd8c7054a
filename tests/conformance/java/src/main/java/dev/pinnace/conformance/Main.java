package dev.pinnace.conformance;

import java.util.HashMap;
import java.util.Map;

/**
 * Runs one conformance case with the official Java client and prints one JSON line. The process
 * ends at once after the answer, without waiting for the client's long polls.
 */
public final class Main {
    /** A case's own work; what it returns is the detail of the answer. */
    @FunctionalInterface
    interface Case {
        String run(Clients clients) throws Exception;
    }

    /** What the driver gives: every flag has a default but endpoint and case. */
    record Options(
            String endpoint,
            String topic,
            String group,
            String secondGroup,
            String unknownTopic,
            int largeBodyBytes,
            boolean tls) {}

    /** Why the client cannot, for every case of the driver's table that it has not. */
    private static final Map<String, String> UNSUPPORTED = Map.of(
            "batch-send", "client sends single messages",
            "lite-simple", "client has no simple consumer of lite topics");

    private Main() {}

    private static Map<String, Case> cases() {
        Map<String, Case> cases = new HashMap<>(SimpleCases.all());
        cases.putAll(PushCases.all());
        cases.putAll(FifoCases.all());
        cases.putAll(DelayCases.all());
        cases.putAll(TransactionCases.all());
        cases.putAll(SelectionCases.all());
        cases.putAll(OperationCases.all());
        return cases;
    }

    public static void main(String[] arguments) {
        Map<String, String> flags = flags(arguments);
        String name = flags.getOrDefault("case", "");
        Options options = new Options(
                flags.getOrDefault("endpoint", ""),
                flags.getOrDefault("topic", "conformance"),
                flags.getOrDefault("group", "conformance"),
                flags.getOrDefault("second-group", "conformance-second"),
                flags.getOrDefault("unknown-topic", "no-such-topic"),
                Integer.parseInt(flags.getOrDefault("large-body-bytes", "4194304")),
                flags.containsKey("tls"));
        String result = "unsupported";
        String detail = UNSUPPORTED.get(name);
        if (detail == null) {
            try {
                detail = cases().get(name).run(new Clients(options));
                result = "pass";
            } catch (Throwable cause) {
                detail = describe(cause);
                result = "fail";
            }
        }
        System.out.printf(
                "{\"case\": %s, \"result\": %s, \"detail\": %s}%n",
                quote(name), quote(result), quote(detail));
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static Map<String, String> flags(String[] arguments) {
        Map<String, String> flags = new HashMap<>();
        for (int n = 0; n < arguments.length; n++) {
            String name = arguments[n].substring(2);
            boolean valued = n + 1 < arguments.length && !arguments[n + 1].startsWith("--");
            flags.put(name, valued ? arguments[++n] : "");
        }
        return flags;
    }

    /** The error with its causes, in one line. */
    static String describe(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            text.append(text.length() == 0 ? "" : " <- ").append(cause);
        }
        return text.toString().replaceAll("\\s+", " ");
    }

    private static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char letter : text.toCharArray()) {
            if (letter == '"' || letter == '\\') {
                quoted.append('\\').append(letter);
            } else if (letter < ' ' || letter > '~') {
                quoted.append(String.format("\\u%04x", (int) letter));
            } else {
                quoted.append(letter);
            }
        }
        return quoted.append('"').toString();
    }
}
