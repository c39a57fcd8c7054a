package dev.pinnace.examples;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * The broker filters by tag and by SQL: consumers get the lines that they want, and no others.
 *
 * <p>Sender and receivers stand in one file here; in real life each is a program of its own.
 */
public final class Logs {
    private static final String TOPIC = "logs";
    private static final Map<String, FilterExpression> FILTERS = Map.of(
            "alerts", new FilterExpression("error || fatal"),
            "slow-requests", new FilterExpression(
                    "service = 'checkout' AND duration_ms > 500", FilterExpressionType.SQL92));

    private record Line(String level, String service, int durationMs, String text) {}

    private static final List<Line> LINES = List.of(
            new Line("info", "checkout", 12, "cart opened"),
            new Line("error", "checkout", 40, "card refused"),
            new Line("info", "checkout", 900, "card accepted"),
            new Line("fatal", "search", 5, "index is gone"),
            new Line("info", "search", 800, "index is back"),
            new Line("error", "checkout", 700, "bank does not answer"));

    private record Heard(String group, String text) {}

    private static final Set<Heard> EXPECTED = Set.of(
            new Heard("alerts", "card refused"),
            new Heard("alerts", "index is gone"),
            new Heard("alerts", "bank does not answer"),
            new Heard("slow-requests", "card accepted"),
            new Heard("slow-requests", "bank does not answer"));
    private static final int PATIENCE_SECONDS = 15;
    private static final int QUIET_SECONDS = 3;

    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    private static final BlockingQueue<Heard> ALL = new LinkedBlockingQueue<>();

    public static void main(String[] arguments) throws Exception {
        String endpoint = arguments.length > 0
                ? arguments[0]
                : System.getenv().getOrDefault("PINNACE_ENDPOINT", "127.0.0.1:8081");
        // Without enableSsl(false) the client speaks TLS, which the broker does on the same port.
        ClientConfiguration configuration =
                ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
        List<PushConsumer> consumers = new ArrayList<>();
        try {
            for (var filter : FILTERS.entrySet()) {
                consumers.add(listen(configuration, filter.getKey(), filter.getValue()));
            }
            try (Producer producer = PROVIDER.newProducerBuilder()
                    .setClientConfiguration(configuration)
                    .setTopics(TOPIC)
                    .build()) {
                send(producer);
                follow();
            }
            closeAll(consumers);
        } catch (ClientException | IllegalStateException error) {
            Throwable cause = Objects.requireNonNullElse(error.getCause(), error);
            fail("No success with the broker at " + endpoint + ": " + cause.getMessage());
        }
        System.exit(0); // Threads of the client would hold up the end.
    }

    private static PushConsumer listen(
            ClientConfiguration configuration, String group, FilterExpression filter)
            throws ClientException {
        return PROVIDER.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Map.of(TOPIC, filter))
                .setMessageListener(message -> {
                    String text = StandardCharsets.UTF_8.decode(message.getBody()).toString();
                    ALL.add(new Heard(group, text));
                    return ConsumeResult.SUCCESS;
                })
                .build();
    }

    private static void send(Producer producer) throws ClientException {
        for (Line line : LINES) {
            producer.send(PROVIDER.newMessageBuilder()
                    .setTopic(TOPIC)
                    .setTag(line.level)
                    // Properties are text; SQL compares them as numbers with a number.
                    .addProperty("service", line.service)
                    .addProperty("duration_ms", String.valueOf(line.durationMs))
                    .setBody(line.text.getBytes(StandardCharsets.UTF_8))
                    .build());
        }
        System.out.printf("Sent %d lines.%n", LINES.size());
    }

    /** Checks off what comes, and goes on for a moment to see whether anything else does. */
    private static void follow() throws InterruptedException {
        Set<Heard> missing = new HashSet<>(EXPECTED);
        while (true) {
            int patience = missing.isEmpty() ? QUIET_SECONDS : PATIENCE_SECONDS;
            Heard heard = ALL.poll(patience, TimeUnit.SECONDS);
            if (heard == null) {
                break;
            }
            System.out.printf("%s: %s.%n", heard.group, heard.text);
            if (!EXPECTED.contains(heard)) {
                fail("A group got a line that its filter does not name.");
            }
            missing.remove(heard);
        }
        if (!missing.isEmpty()) {
            fail("These lines did not come: " + missing);
        }
        System.out.println("Each group got the lines that its filter names, and no others.");
    }

    /** Each waits for the end of the receive that is under way, up to 20 s; so all at once. */
    private static void closeAll(List<PushConsumer> consumers) throws InterruptedException {
        List<Callable<Void>> closings = new ArrayList<>();
        for (PushConsumer consumer : consumers) {
            closings.add(() -> {
                consumer.close();
                return null;
            });
        }
        Executors.newCachedThreadPool().invokeAll(closings);
    }

    private static void fail(String reason) {
        System.err.println(reason);
        System.exit(1);
    }
}
