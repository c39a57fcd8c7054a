package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.COLLECT_LIMIT;
import static dev.pinnace.conformance.Clients.body;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.collect;
import static dev.pinnace.conformance.Clients.receiveDuring;
import static dev.pinnace.conformance.Steps.checkBodies;
import static dev.pinnace.conformance.Steps.collectAndMore;
import static dev.pinnace.conformance.Steps.secondsSince;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** Cases of messages that become visible with a transaction. */
final class TransactionCases {
    private static final double CHECK_AFTER_LEAST_SECONDS = 5.5;
    private static final double CHECK_AFTER_MOST_SECONDS = 12;

    private TransactionCases() {}

    static Map<String, Main.Case> all() {
        return Map.of(
                "transaction-commit", TransactionCases::commit,
                "transaction-invisible", TransactionCases::invisible,
                "transaction-rollback", TransactionCases::rollback,
                "transaction-check", TransactionCases::checked,
                "transaction-check-rollback", TransactionCases::checkedRollback,
                "transaction-restart", TransactionCases::restart);
    }

    /** A producer that answers the broker's questions always the same; it remembers them. */
    private static Producer producer(
            Clients clients, Clients.Heard asked, TransactionResolution resolution)
            throws ClientException {
        return clients.producer(view -> {
            asked.add(view);
            return resolution;
        });
    }

    /** A half message with its transaction, and what its producer was asked. */
    private record Half(
            Transaction transaction, String id, long sentNanos, Clients.Heard asked) {

        static Half begin(Clients clients, TransactionResolution resolution)
                throws ClientException {
            Clients.Heard asked = new Clients.Heard();
            Producer producer = producer(clients, asked, resolution);
            Transaction transaction = producer.beginTransaction();
            String id = producer.send(
                    clients.message("half").setTag("tag-a").addProperty("colour", "blue").build(),
                    transaction).getMessageId().toString();
            return new Half(transaction, id, System.nanoTime(), asked);
        }

        void checkWhole(MessageView view) {
            check(Clients.id(view).equals(id), "message id " + Clients.id(view));
            check(new String(body(view)).equals("half"), "body " + new String(body(view)));
            check(view.getTag().orElse("").equals("tag-a"), "tag " + view.getTag());
            check(view.getProperties().equals(Map.of("colour", "blue")),
                    "properties " + view.getProperties());
        }

        /** The producer was asked about its message; after so many seconds. */
        double checkAsked() {
            check(asked.waitForCount(COLLECT_LIMIT, 1),
                    "nobody was asked for " + COLLECT_LIMIT.toSeconds() + " s");
            Clients.Arrival question = asked.arrivals().get(0);
            checkWhole(question.view());
            return (question.atNanos() - sentNanos) / 1e9;
        }

        String checkAskedInTime() {
            double waited = checkAsked();
            String detail = String.format("asked after %.1f s", waited);
            check(waited >= CHECK_AFTER_LEAST_SECONDS && waited <= CHECK_AFTER_MOST_SECONDS,
                    detail);
            return detail;
        }
    }

    private static String commit(Clients clients) throws Exception {
        Half half = Half.begin(clients, TransactionResolution.COMMIT);
        SimpleConsumer consumer = clients.simple();
        half.transaction().commit();
        long committed = System.nanoTime();
        MessageView view = collect(consumer, 1).get(0);
        double waited = secondsSince(committed);
        half.checkWhole(view);
        check(waited <= 2, String.format("came after %.1f s", waited));
        return "";
    }

    private static String invisible(Clients clients) throws Exception {
        Half half = Half.begin(clients, TransactionResolution.UNKNOWN);
        SimpleConsumer consumer = clients.simple();
        check(receiveDuring(consumer, Duration.ofSeconds(4)).isEmpty(), "came before the commit");
        half.transaction().commit();
        half.checkWhole(collect(consumer, 1).get(0));
        return "";
    }

    private static String rollback(Clients clients) throws Exception {
        Half half = Half.begin(clients, TransactionResolution.COMMIT);
        half.transaction().rollback();
        check(receiveDuring(clients.simple(), Duration.ofSeconds(9)).isEmpty(),
                "came in spite of the rollback");
        check(half.asked().all().isEmpty(), "asked about a finished transaction");
        return "";
    }

    private static String checked(Clients clients) throws Exception {
        Half half = Half.begin(clients, TransactionResolution.COMMIT);
        half.checkWhole(collect(clients.simple(), 1).get(0));
        return half.checkAskedInTime();
    }

    private static String checkedRollback(Clients clients) throws Exception {
        Half half = Half.begin(clients, TransactionResolution.ROLLBACK);
        String detail = half.checkAskedInTime();
        check(receiveDuring(clients.simple(), Duration.ofSeconds(3)).isEmpty(),
                "came in spite of the rollback");
        return detail;
    }

    private static String restart(Clients clients) throws Exception {
        Half half = Half.begin(clients, TransactionResolution.COMMIT);
        Steps.ask("restart").get();
        producer(clients, half.asked(), TransactionResolution.COMMIT);
        SimpleConsumer consumer = clients.simple();
        half.checkAsked();
        List<MessageView> came = collectAndMore(consumer, 1, Duration.ofSeconds(1));
        checkBodies(came, "half");
        half.checkWhole(came.get(0));
        return "";
    }
}
