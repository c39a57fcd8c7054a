package dev.pinnace.examples;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * The events of every order are handled in the order in which they happened (FIFO).
 *
 * <p>Sender and receiver stand in one file here; in a shop they are two programs.
 */
public final class Orders {
    private static final String TOPIC = "order-events";
    private static final String GROUP = "shipping";
    private static final List<String> STEPS = List.of("placed", "paid", "packed", "shipped");
    private static final int PATIENCE_SECONDS = 15;

    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    private static final BlockingQueue<MessageView> HANDLED = new LinkedBlockingQueue<>();

    public static void main(String[] arguments) throws Exception {
        String endpoint = arguments.length > 0
                ? arguments[0]
                : System.getenv().getOrDefault("PINNACE_ENDPOINT", "127.0.0.1:8081");
        // Without enableSsl(false) the client speaks TLS, which the broker does on the same port.
        ClientConfiguration configuration =
                ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
        // Closing the consumer waits for the end of the receive that is under way: up to 20 s.
        try (PushConsumer shipping = PROVIDER.newPushConsumerBuilder()
                        .setClientConfiguration(configuration)
                        .setConsumerGroup(GROUP)
                        .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
                        .setMessageListener(Orders::handle)
                        .build();
                Producer shop = PROVIDER.newProducerBuilder()
                        .setClientConfiguration(configuration)
                        .setTopics(TOPIC)
                        .build()) {
            follow(place(shop));
        } catch (ClientException | IllegalStateException error) {
            Throwable cause = Objects.requireNonNullElse(error.getCause(), error);
            fail("No success with the broker at " + endpoint + ": " + cause.getMessage());
        }
        System.exit(0); // Threads of the client would hold up the end.
    }

    /** Called by several threads, but never for two events of one order at the same time. */
    private static ConsumeResult handle(MessageView event) {
        HANDLED.add(event);
        // After FAILURE the client calls again with this event before it goes on with the order.
        return ConsumeResult.SUCCESS;
    }

    /** Sends the events of three orders, in turn, and says what the orders are called. */
    private static List<String> place(Producer shop) throws ClientException {
        long day = System.currentTimeMillis();
        List<String> orders = List.of(day + "-1", day + "-2", day + "-3");
        for (String step : STEPS) {
            for (String order : orders) {
                shop.send(PROVIDER.newMessageBuilder()
                        .setTopic(TOPIC)
                        // Order is kept within a message group, and only there.
                        .setMessageGroup(order)
                        .setKeys(order)
                        .setBody(step.getBytes(StandardCharsets.UTF_8))
                        .build());
            }
        }
        System.out.printf("Shop: sent %d events of each of %d orders, in turn.%n",
                STEPS.size(), orders.size());
        return orders;
    }

    private static void follow(List<String> orders) throws InterruptedException {
        Map<String, List<String>> came = new TreeMap<>();
        orders.forEach(order -> came.put(order, new ArrayList<>()));
        while (came.values().stream().anyMatch(steps -> steps.size() < STEPS.size())) {
            MessageView event = HANDLED.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (event == null) {
                fail("Not every event came, only these: " + came);
            }
            String order = event.getMessageGroup().orElseThrow();
            String step = StandardCharsets.UTF_8.decode(event.getBody()).toString();
            System.out.printf("Shipping: order %s was %s.%n", order, step);
            if (came.containsKey(order)) { // Others are left from an earlier day.
                came.get(order).add(step);
            }
        }
        came.forEach((order, steps) -> {
            if (!steps.equals(STEPS)) {
                fail("The events of order " + order + " came out of order: " + steps);
            }
        });
        System.out.println(
                "The events of every order were handled in the order in which they were sent.");
    }

    private static void fail(String reason) {
        System.err.println(reason);
        System.exit(1);
    }
}
