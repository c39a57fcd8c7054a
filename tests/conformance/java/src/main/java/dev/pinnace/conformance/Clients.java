package dev.pinnace.conformance;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.BooleanSupplier;
import java.util.function.Predicate;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientConfigurationBuilder;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;

/** The official client's producers and consumers for one case, and what the cases need of them. */
final class Clients {
    static final Duration AWAIT = Duration.ofSeconds(5);
    static final Duration INVISIBLE = Duration.ofSeconds(10);
    static final Duration COLLECT_LIMIT = Duration.ofSeconds(30);
    /** Longer than any case, so that nothing collected comes back by itself. */
    static final Duration COLLECT_INVISIBLE = Duration.ofSeconds(120);

    final Main.Options options;
    private final ClientServiceProvider provider = ClientServiceProvider.loadService();

    Clients(Main.Options options) {
        this.options = options;
    }

    static void check(boolean condition, String text) {
        if (!condition) {
            throw new IllegalStateException(text);
        }
    }

    /** With TLS nothing is set: it is this client's default. */
    private ClientConfiguration configuration() {
        ClientConfigurationBuilder builder =
                ClientConfiguration.newBuilder().setEndpoints(options.endpoint());
        return options.tls() ? builder.build() : builder.enableSsl(false).build();
    }

    Producer producer() throws ClientException {
        return producer(options.topic());
    }

    Producer producer(String topic) throws ClientException {
        return provider.newProducerBuilder()
                .setClientConfiguration(configuration())
                .setTopics(topic)
                .build();
    }

    /** For transactions. */
    Producer producer(TransactionChecker checker) throws ClientException {
        return provider.newProducerBuilder()
                .setClientConfiguration(configuration())
                .setTopics(options.topic())
                .setTransactionChecker(checker)
                .build();
    }

    SimpleConsumer simple() throws ClientException {
        return simple(options.group(), options.topic(), "*", AWAIT);
    }

    SimpleConsumer simple(String group, String topic, String tags, Duration await)
            throws ClientException {
        return simple(group, topic, new FilterExpression(tags), await);
    }

    SimpleConsumer simple(String group, String topic, FilterExpression filter, Duration await)
            throws ClientException {
        return provider.newSimpleConsumerBuilder()
                .setClientConfiguration(configuration())
                .setConsumerGroup(group)
                .setAwaitDuration(await)
                .setSubscriptionExpressions(Map.of(topic, filter))
                .build();
    }

    record Arrival(MessageView view, long atNanos) {}

    /** What a listener saw, in this order. */
    static final class Heard {
        private final List<Arrival> arrivals = new ArrayList<>();

        synchronized void add(MessageView view) {
            arrivals.add(new Arrival(view, System.nanoTime()));
        }

        synchronized List<Arrival> arrivals() {
            return new ArrayList<>(arrivals);
        }

        List<MessageView> all() {
            return arrivals().stream().map(Arrival::view).toList();
        }

        boolean waitForCount(Duration limit, int count) {
            return waitFor(limit, () -> all().size() >= count);
        }
    }

    private static MessageListener listener(Heard heard, Predicate<MessageView> decide) {
        return view -> {
            heard.add(view);
            return decide.test(view) ? ConsumeResult.SUCCESS : ConsumeResult.FAILURE;
        };
    }

    PushConsumer startPush(
            String group, FilterExpression filter, Heard heard, Predicate<MessageView> decide)
            throws ClientException {
        return provider.newPushConsumerBuilder()
                .setClientConfiguration(configuration())
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Map.of(options.topic(), filter))
                .setMessageListener(listener(heard, decide))
                .build();
    }

    Heard push(String group, Predicate<MessageView> decide) throws ClientException {
        Heard heard = new Heard();
        startPush(group, FilterExpression.SUB_ALL, heard, decide);
        return heard;
    }

    /** A push consumer of lite topics, of none yet. */
    LitePushConsumer litePush(Heard heard) throws ClientException {
        return provider.newLitePushConsumerBuilder()
                .setClientConfiguration(configuration())
                .setConsumerGroup(options.group())
                .bindTopic(options.topic())
                .setMessageListener(listener(heard, view -> true))
                .build();
    }

    /** Waits until the condition holds and says whether it did. */
    static boolean waitFor(Duration limit, BooleanSupplier condition) {
        long ends = System.nanoTime() + limit.toNanos();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > ends) {
                return false;
            }
            pause(10);
        }
        return true;
    }

    static void pause(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }

    MessageBuilder message(String body) {
        return message(body.getBytes(StandardCharsets.UTF_8));
    }

    MessageBuilder message(byte[] body) {
        return provider.newMessageBuilder().setTopic(options.topic()).setBody(body);
    }

    static String send(Producer producer, MessageBuilder message) throws ClientException {
        return producer.send(message.build()).getMessageId().toString();
    }

    List<String> sendAll(Producer producer, int count) throws ClientException {
        List<String> ids = new ArrayList<>();
        for (int n = 0; n < count; n++) {
            ids.add(send(producer, message("message-" + n)));
        }
        return ids;
    }

    static byte[] body(MessageView view) {
        ByteBuffer buffer = view.getBody();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static String id(MessageView view) {
        return view.getMessageId().toString();
    }

    static List<String> sortedIds(List<MessageView> views) {
        return views.stream().map(Clients::id).sorted().toList();
    }

    /** Receives until count messages came, and acknowledges them when asked. */
    static List<MessageView> receiveUntil(
            SimpleConsumer consumer, int count, Duration invisible, boolean acknowledge)
            throws ClientException {
        List<MessageView> views = new ArrayList<>();
        long ends = System.nanoTime() + COLLECT_LIMIT.toNanos();
        while (views.size() < count && System.nanoTime() < ends) {
            for (MessageView view : consumer.receive(16, invisible)) {
                views.add(view);
                if (acknowledge) {
                    consumer.ack(view);
                }
            }
        }
        check(views.size() >= count, views.size() + " of " + count + " messages came within "
                + COLLECT_LIMIT.toSeconds() + " s");
        return views;
    }

    static List<MessageView> collect(SimpleConsumer consumer, int count) throws ClientException {
        return receiveUntil(consumer, count, COLLECT_INVISIBLE, true);
    }

    /** Everything that comes within the given time. */
    static List<Arrival> receiveDuring(SimpleConsumer consumer, Duration limit)
            throws ClientException {
        List<Arrival> arrivals = new ArrayList<>();
        long ends = System.nanoTime() + limit.toNanos();
        while (System.nanoTime() < ends) {
            for (MessageView view : consumer.receive(16, COLLECT_INVISIBLE)) {
                arrivals.add(new Arrival(view, System.nanoTime()));
            }
        }
        return arrivals;
    }
}
