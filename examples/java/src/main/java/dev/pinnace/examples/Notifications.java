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
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * Every group gets every event; in a broadcasting group, every consumer does (publish-subscribe).
 *
 * <p>Sender and receivers stand in one file here; in a shop each is a program of its own.
 */
public final class Notifications {
    private static final String TOPIC = "notifications";
    /**
     * Who listens, and for which group. The two web servers are consumers of the same group: it is
     * its manifest that makes it a broadcasting group, nothing in the program says so.
     */
    private static final Map<String, String> LISTENERS = Map.of(
            "email", "email",
            "sms", "sms",
            "audit", "audit",
            "web server 1", "web-cache",
            "web server 2", "web-cache");
    private static final int PATIENCE_SECONDS = 15;

    private record Heard(String name, String event) {}

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
            for (var listener : LISTENERS.entrySet()) {
                consumers.add(listen(configuration, listener.getKey(), listener.getValue()));
            }
            try (Producer shop = PROVIDER.newProducerBuilder()
                    .setClientConfiguration(configuration)
                    .setTopics(TOPIC)
                    .build()) {
                follow(tell(shop));
            }
            closeAll(consumers);
        } catch (ClientException | IllegalStateException error) {
            Throwable cause = Objects.requireNonNullElse(error.getCause(), error);
            fail("No success with the broker at " + endpoint + ": " + cause.getMessage());
        }
        System.exit(0); // Threads of the client would hold up the end.
    }

    private static PushConsumer listen(
            ClientConfiguration configuration, String name, String group) throws ClientException {
        return PROVIDER.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
                .setMessageListener(message -> {
                    String event = StandardCharsets.UTF_8.decode(message.getBody()).toString();
                    ALL.add(new Heard(name, event));
                    return ConsumeResult.SUCCESS;
                })
                .build();
    }

    /** Sends three events and says who should hear what. */
    private static Set<Heard> tell(Producer shop) throws ClientException {
        Set<Heard> wanted = new HashSet<>();
        long order = System.currentTimeMillis();
        for (String step : List.of("placed", "paid", "shipped")) {
            String event = "order " + order + " was " + step;
            shop.send(PROVIDER.newMessageBuilder()
                    .setTopic(TOPIC)
                    .setBody(event.getBytes(StandardCharsets.UTF_8))
                    .build());
            System.out.printf("Shop: %s.%n", event);
            LISTENERS.keySet().forEach(name -> wanted.add(new Heard(name, event)));
        }
        return wanted;
    }

    private static void follow(Set<Heard> missing) throws InterruptedException {
        while (!missing.isEmpty()) {
            Heard heard = ALL.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (heard == null) {
                fail("These did not hear of everything: " + missing);
            }
            System.out.printf("%s: heard that %s.%n", heard.name, heard.event);
            missing.remove(heard);
        }
        System.out.println("Each of the three groups and both web servers heard of every event.");
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
