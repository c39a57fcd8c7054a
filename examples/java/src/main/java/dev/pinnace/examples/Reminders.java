package dev.pinnace.examples;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageId;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/**
 * Messages for later, and one of them taken back before its time (delay and recall).
 *
 * <p>Sender and receiver stand in one file here; in real life they are two programs.
 */
public final class Reminders {
    private static final String TOPIC = "reminders";
    private static final String GROUP = "calendar";
    private static final int PATIENCE_SECONDS = 20;

    private record Ring(MessageView message, long lateMs) {}

    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    private static final BlockingQueue<Ring> RINGS = new LinkedBlockingQueue<>();

    public static void main(String[] arguments) throws Exception {
        String endpoint = arguments.length > 0
                ? arguments[0]
                : System.getenv().getOrDefault("PINNACE_ENDPOINT", "127.0.0.1:8081");
        // Without enableSsl(false) the client speaks TLS, which the broker does on the same port.
        ClientConfiguration configuration =
                ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
        // Closing the consumer waits for the end of the receive that is under way: up to 20 s.
        try (PushConsumer calendar = PROVIDER.newPushConsumerBuilder()
                        .setClientConfiguration(configuration)
                        .setConsumerGroup(GROUP)
                        .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
                        .setMessageListener(Reminders::ring)
                        .build();
                Producer producer = PROVIDER.newProducerBuilder()
                        .setClientConfiguration(configuration)
                        .setTopics(TOPIC)
                        .build()) {
            follow(remind(producer));
        } catch (ClientException | IllegalStateException error) {
            Throwable cause = Objects.requireNonNullElse(error.getCause(), error);
            fail("No success with the broker at " + endpoint + ": " + cause.getMessage());
        }
        System.exit(0); // Threads of the client would hold up the end.
    }

    private static ConsumeResult ring(MessageView message) {
        long dueMs = message.getDeliveryTimestamp().orElseThrow();
        RINGS.add(new Ring(message, System.currentTimeMillis() - dueMs));
        return ConsumeResult.SUCCESS;
    }

    private static SendReceipt sendLater(Producer producer, String text, Duration delay)
            throws ClientException {
        SendReceipt receipt = producer.send(PROVIDER.newMessageBuilder()
                .setTopic(TOPIC)
                // When to deliver it, in milliseconds since 1970: a moment, not a delay.
                .setDeliveryTimestamp(System.currentTimeMillis() + delay.toMillis())
                .setBody(text.getBytes(StandardCharsets.UTF_8))
                .build());
        System.out.printf("Sent the reminder '%s' for %d s from now.%n", text, delay.toSeconds());
        return receipt;
    }

    /** Sends three reminders, takes one back, and says how the messages of all are called. */
    private static Set<MessageId> remind(Producer producer) throws ClientException {
        SendReceipt dentist = sendLater(producer, "dentist", Duration.ofSeconds(8));
        SendReceipt train = sendLater(producer, "train", Duration.ofSeconds(6));
        SendReceipt tea = sendLater(producer, "tea", Duration.ofSeconds(4));
        producer.recallMessage(TOPIC, train.getRecallHandle());
        System.out.println("Took the reminder 'train' back: we go by car.");
        return Set.of(dentist.getMessageId(), train.getMessageId(), tea.getMessageId());
    }

    private static void follow(Set<MessageId> sent) throws InterruptedException {
        List<String> came = new ArrayList<>();
        while (!came.contains("dentist")) { // The last one; 'train' would come before it.
            Ring ring = RINGS.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (ring == null) {
                fail("Not every reminder came, only these: " + came);
            }
            if (!sent.contains(ring.message.getMessageId())) {
                continue; // Left from an earlier day.
            }
            String text = StandardCharsets.UTF_8.decode(ring.message.getBody()).toString();
            System.out.printf("Calendar: '%s', %d ms after its time.%n", text, ring.lateMs);
            if (ring.lateMs < 0) {
                fail("A reminder came before its time.");
            }
            came.add(text);
        }
        if (!came.equals(List.of("tea", "dentist"))) {
            fail("Expected 'tea' and 'dentist', but these came: " + came);
        }
        System.out.println(
                "The two reminders came at their time, and the one that was taken back did not.");
    }

    private static void fail(String reason) {
        System.err.println(reason);
        System.exit(1);
    }
}
