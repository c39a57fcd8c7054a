package dev.pinnace.examples;

import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
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
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/**
 * A payment is announced if, and only if, it was made (transaction messages).
 *
 * <p>Sender and receiver stand in one file here; in a shop they are two programs.
 */
public final class Payments {
    private static final String TOPIC = "payments";
    private static final String GROUP = "ledger";
    // The broker asks about a payment some 6 s after it was sent without a decision.
    private static final int PATIENCE_SECONDS = 20;
    private static final int QUIET_SECONDS = 3;

    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    /** Which cards were charged; a real shop keeps this in its database. */
    private static final Map<String, Boolean> CHARGED = new ConcurrentHashMap<>();
    private static final BlockingQueue<MessageView> BOOKED = new LinkedBlockingQueue<>();

    public static void main(String[] arguments) throws Exception {
        String endpoint = arguments.length > 0
                ? arguments[0]
                : System.getenv().getOrDefault("PINNACE_ENDPOINT", "127.0.0.1:8081");
        // Without enableSsl(false) the client speaks TLS, which the broker does on the same port.
        ClientConfiguration configuration =
                ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
        // Closing the consumer waits for the end of the receive that is under way: up to 20 s.
        try (PushConsumer ledger = PROVIDER.newPushConsumerBuilder()
                        .setClientConfiguration(configuration)
                        .setConsumerGroup(GROUP)
                        .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
                        .setMessageListener(payment -> {
                            BOOKED.add(payment);
                            return ConsumeResult.SUCCESS;
                        })
                        .build();
                Producer till = PROVIDER.newProducerBuilder()
                        .setClientConfiguration(configuration)
                        .setTopics(TOPIC)
                        .setTransactionChecker(Payments::check)
                        .build()) {
            pay(till);
        } catch (ClientException | IllegalStateException error) {
            Throwable cause = Objects.requireNonNullElse(error.getCause(), error);
            fail("No success with the broker at " + endpoint + ": " + cause.getMessage());
        }
        System.exit(0); // Threads of the client would hold up the end.
    }

    /** The broker asks what became of a payment that was neither committed nor rolled back. */
    private static TransactionResolution check(MessageView message) {
        String payment = message.getKeys().iterator().next();
        Boolean charged = CHARGED.get(payment);
        System.out.printf("Till: the broker asks about %s; charged: %s.%n", payment, charged);
        if (charged == null) {
            return TransactionResolution.UNKNOWN; // Still at it, ask again.
        }
        return charged ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
    }

    /** Sends the half message, which nobody sees yet. */
    private static Transaction begin(Producer till, String payment, String amount)
            throws ClientException {
        Transaction transaction = till.beginTransaction();
        till.send(PROVIDER.newMessageBuilder()
                .setTopic(TOPIC)
                .setKeys(payment)
                .setBody(amount.getBytes(StandardCharsets.UTF_8))
                .build(), transaction);
        return transaction;
    }

    private static void pay(Producer till) throws ClientException, InterruptedException {
        long day = System.currentTimeMillis();
        String good = "payment-" + day + "-1";
        String refused = "payment-" + day + "-2";
        String forgotten = "payment-" + day + "-3";

        // First the half message, then the work it tells of, then the decision.
        Transaction transaction = begin(till, good, "20 EUR");
        CHARGED.put(good, true);
        transaction.commit();
        System.out.printf("Till: %s was charged and committed.%n", good);

        transaction = begin(till, refused, "5000 EUR");
        CHARGED.put(refused, false);
        transaction.rollback();
        System.out.printf("Till: %s was refused by the bank and rolled back.%n", refused);

        begin(till, forgotten, "7 EUR");
        CHARGED.put(forgotten, true);
        System.out.printf("Till: %s was charged, and then we forgot to commit it.%n", forgotten);

        Set<String> booked = bookings(Set.of(good, forgotten));
        if (booked.contains(refused)) {
            fail("A payment that was rolled back reached the ledger.");
        }
        if (!booked.containsAll(Set.of(good, forgotten))) {
            fail("Not every payment reached the ledger, only these: " + booked);
        }
        System.out.println("The ledger has the two payments that were made,"
                + " and not the one that was refused.");
    }

    /** What came until the wanted payments are there and nothing more comes. */
    private static Set<String> bookings(Set<String> wanted) throws InterruptedException {
        Set<String> booked = new HashSet<>();
        while (true) {
            int patience = booked.containsAll(wanted) ? QUIET_SECONDS : PATIENCE_SECONDS;
            MessageView message = BOOKED.poll(patience, TimeUnit.SECONDS);
            if (message == null) {
                return booked;
            }
            String payment = message.getKeys().iterator().next();
            String amount = StandardCharsets.UTF_8.decode(message.getBody()).toString();
            System.out.printf("Ledger: booked %s of %s.%n", payment, amount);
            booked.add(payment);
        }
    }

    private static void fail(String reason) {
        System.err.println(reason);
        System.exit(1);
    }
}
