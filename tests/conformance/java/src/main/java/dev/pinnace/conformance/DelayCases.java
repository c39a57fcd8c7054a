package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.COLLECT_INVISIBLE;
import static dev.pinnace.conformance.Clients.body;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.collect;
import static dev.pinnace.conformance.Clients.receiveUntil;
import static dev.pinnace.conformance.Steps.checkBodies;
import static dev.pinnace.conformance.Steps.collectAndMore;
import static dev.pinnace.conformance.Steps.expectRefusal;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** Cases of messages for later. Times are milliseconds of the wall clock. */
final class DelayCases {
    private static final long LATE = 1000;

    private DelayCases() {}

    static Map<String, Main.Case> all() {
        return Map.of(
                "delay", DelayCases::delay,
                "delay-order", DelayCases::order,
                "delay-past", DelayCases::past,
                "delay-too-far", DelayCases::tooFar,
                "recall", DelayCases::recall,
                "recall-late", DelayCases::recallLate,
                "delay-restart", DelayCases::restart);
    }

    private static long dueIn(Duration duration) {
        return System.currentTimeMillis() + duration.toMillis();
    }

    private static SendReceipt sendLater(Clients clients, Producer producer, String body, long due)
            throws ClientException {
        return producer.send(clients.message(body).setDeliveryTimestamp(due).build());
    }

    private record Arrival(MessageView view, long at) {}

    /** Receives until count messages came, and acknowledges none. */
    private static List<Arrival> arrivalsUntil(SimpleConsumer consumer, int count)
            throws ClientException {
        List<Arrival> arrivals = new ArrayList<>();
        while (arrivals.size() < count) {
            List<MessageView> views = receiveUntil(consumer, 1, COLLECT_INVISIBLE, false);
            long at = System.currentTimeMillis();
            views.forEach(view -> arrivals.add(new Arrival(view, at)));
        }
        return arrivals;
    }

    private static String checkInTime(Arrival arrival, long due, long atMost) {
        long late = arrival.at() - due;
        String detail = late + " ms after its time";
        check(late >= 0 && late <= atMost, new String(body(arrival.view())) + " came " + detail);
        long shown = arrival.view().getDeliveryTimestamp().orElse(0L);
        check(shown == due, "delivery timestamp " + shown + " instead of " + due);
        return detail;
    }

    private static String delay(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SimpleConsumer consumer = clients.simple();
        long due = dueIn(Duration.ofSeconds(3));
        sendLater(clients, producer, "later", due);
        return checkInTime(arrivalsUntil(consumer, 1).get(0), due, LATE);
    }

    private static String order(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SimpleConsumer consumer = clients.simple();
        Map<String, Long> due = new HashMap<>();
        for (int seconds : List.of(6, 4, 2)) {
            due.put("" + seconds, dueIn(Duration.ofSeconds(seconds)));
            sendLater(clients, producer, "" + seconds, due.get("" + seconds));
        }
        List<Arrival> arrivals = arrivalsUntil(consumer, 3);
        checkBodies(arrivals.stream().map(Arrival::view).toList(), "2", "4", "6");
        for (Arrival arrival : arrivals) {
            checkInTime(arrival, due.get(new String(body(arrival.view()))), LATE);
        }
        return "";
    }

    private static String past(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SimpleConsumer consumer = clients.simple();
        sendLater(clients, producer, "late", dueIn(Duration.ofSeconds(-60)));
        long sent = System.currentTimeMillis();
        long waited = arrivalsUntil(consumer, 1).get(0).at() - sent;
        check(waited <= 1000, "came after " + waited + " ms");
        return "";
    }

    private static String tooFar(Clients clients) throws Exception {
        Producer producer = clients.producer();
        return expectRefusal(
                () -> sendLater(clients, producer, "too far", dueIn(Duration.ofHours(25))),
                "ILLEGAL_DELIVERY_TIME", "40012");
    }

    private static String recall(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SimpleConsumer consumer = clients.simple();
        long due = dueIn(Duration.ofSeconds(3));
        SendReceipt receipt = sendLater(clients, producer, "recalled", due);
        sendLater(clients, producer, "neighbour", due);
        String id = producer.recallMessage(clients.options.topic(), receipt.getRecallHandle())
                .getMessageId().toString();
        check(id.equals(receipt.getMessageId().toString()), "message id " + id + " was recalled");
        checkBodies(collectAndMore(consumer, 1, Duration.ofSeconds(2)), "neighbour");
        return "";
    }

    private static String recallLate(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SendReceipt receipt =
                sendLater(clients, producer, "delivered", dueIn(Duration.ofSeconds(2)));
        collect(clients.simple(), 1);
        return expectRefusal(
                () -> producer.recallMessage(clients.options.topic(), receipt.getRecallHandle()),
                "BAD_REQUEST", "40000", "MESSAGE_NOT_FOUND", "40401");
    }

    private static String restart(Clients clients) throws Exception {
        long due = dueIn(Duration.ofSeconds(10));
        sendLater(clients, clients.producer(), "pending", due);
        Steps.ask("restart").get();
        long atMost = LATE + Math.max(0, System.currentTimeMillis() - due);
        SimpleConsumer consumer = clients.simple();
        String detail = checkInTime(arrivalsUntil(consumer, 1).get(0), due, atMost);
        check(Clients.receiveDuring(consumer, Duration.ofSeconds(1)).isEmpty(), "came twice");
        return detail;
    }
}
