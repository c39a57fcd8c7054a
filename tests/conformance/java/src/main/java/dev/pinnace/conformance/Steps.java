package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.AWAIT;
import static dev.pinnace.conformance.Clients.COLLECT_LIMIT;
import static dev.pinnace.conformance.Clients.body;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.collect;
import static dev.pinnace.conformance.Clients.id;
import static dev.pinnace.conformance.Clients.send;
import static dev.pinnace.conformance.Clients.sortedIds;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Steps that several cases take. */
final class Steps {
    /** How much before its duration a lease may end: clocks and rounding of two processes. */
    static final double EARLY_SECONDS = 0.5;

    private Steps() {}

    static double secondsSince(long nanos) {
        return (System.nanoTime() - nanos) / 1e9;
    }

    static List<String> bodies(List<MessageView> views) {
        return views.stream().map(view -> new String(body(view))).toList();
    }

    static void checkBodies(List<MessageView> views, String... expected) {
        check(bodies(views).equals(List.of(expected)), "came as " + bodies(views));
    }

    static void checkEachOnce(List<MessageView> got, List<String> sent) {
        check(sortedIds(got).equals(sent.stream().sorted().toList()),
                got.size() + " deliveries for " + sent.size() + " messages");
    }

    /** So many messages, and what comes within the limit after them. */
    static List<MessageView> collectAndMore(SimpleConsumer consumer, int count, Duration limit)
            throws ClientException {
        List<MessageView> views = new ArrayList<>(collect(consumer, count));
        Clients.receiveDuring(consumer, limit).forEach(arrival -> views.add(arrival.view()));
        return views;
    }

    /** A single message, which is not acknowledged. */
    static MessageView receiveOne(SimpleConsumer consumer, Duration invisible)
            throws ClientException {
        long began = System.nanoTime();
        while (secondsSince(began) < COLLECT_LIMIT.toSeconds()) {
            List<MessageView> views = consumer.receive(1, invisible);
            if (!views.isEmpty()) {
                return views.get(0);
            }
        }
        throw new IllegalStateException("no message within " + COLLECT_LIMIT.toSeconds() + " s");
    }

    /** Every message group in turn; a body is its place in the group. */
    static void sendInGroups(Clients clients, int groups, int each) throws ClientException {
        Producer producer = clients.producer();
        for (int n = 0; n < each; n++) {
            for (int group = 0; group < groups; group++) {
                send(producer, clients.message("" + n).setMessageGroup("group-" + group));
            }
        }
    }

    static String messageGroup(MessageView view) {
        return view.getMessageGroup().orElse("");
    }

    /** Each group is there from first to last, nothing twice. */
    static void checkInOrder(
            List<MessageView> views, int groups, int each, Function<MessageView, String> name) {
        Map<String, List<String>> got = new HashMap<>();
        for (MessageView view : views) {
            got.computeIfAbsent(name.apply(view), group -> new ArrayList<>())
                    .add(new String(body(view)));
        }
        check(got.size() == groups, got.size() + " groups of " + groups);
        List<String> expected = IntStream.range(0, each).mapToObj(Integer::toString).toList();
        got.forEach((group, places) ->
                check(places.equals(expected), group + " came as " + places));
    }

    /** The dead letter topic may appear with the first dead letter. */
    private static SimpleConsumer openDeadLetters(Clients clients) throws Exception {
        String topic = "%DLQ%" + clients.options.group();
        long began = System.nanoTime();
        while (true) {
            try {
                return clients.simple(clients.options.secondGroup(), topic, "*", AWAIT);
            } catch (ClientException | RuntimeException missing) {
                if (secondsSince(began) > COLLECT_LIMIT.toSeconds()) {
                    throw missing;
                }
                Clients.pause(500);
            }
        }
    }

    static MessageView receiveDeadLetter(Clients clients) throws Exception {
        return collect(openDeadLetters(clients), 1).get(0);
    }

    static String checkDeadLetter(Clients clients, String sent) throws Exception {
        MessageView got = receiveDeadLetter(clients);
        check(new String(body(got)).equals("poison"), "another message is in the dead letters");
        check(got.getTag().orElse("").equals("tag-a"), "tag " + got.getTag());
        check("blue".equals(got.getProperties().get("colour")),
                "properties " + got.getProperties());
        return idKept(got, sent);
    }

    static String idKept(MessageView got, String sent) {
        return id(got).equals(sent) ? "message id kept" : "new message id";
    }

    static MessageBuilder poison(Clients clients) {
        return clients.message("poison").setTag("tag-a").setKeys("key-1")
                .addProperty("colour", "blue");
    }

    static String sendPoison(Clients clients) throws Exception {
        return send(clients.producer(), poison(clients));
    }

    interface Refused {
        void attempt() throws Exception;
    }

    static String expectRefusal(Refused action, String... words) {
        try {
            action.attempt();
        } catch (Exception error) {
            String text = Main.describe(error);
            check(Stream.of(words).anyMatch(text::contains), "unclear error: " + text);
            return text;
        }
        throw new IllegalStateException("nothing was refused");
    }

    /** Asks for the broker's "restart", or for its command "redrive". */
    static CompletableFuture<Void> ask(String event) {
        return askFor("{\"event\": \"" + event + "\"}");
    }

    static CompletableFuture<Void> askReset(String to) {
        return askFor("{\"event\": \"reset\", \"to\": \"" + to + "\"}");
    }

    /** Has the driver do something to the broker; done with the line that it answers. */
    private static CompletableFuture<Void> askFor(String request) {
        System.out.println(request);
        System.out.flush();
        return CompletableFuture.runAsync(() -> {
            try {
                System.in.read();
            } catch (java.io.IOException closed) {
                throw new IllegalStateException(closed);
            }
        });
    }
}
