package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.COLLECT_INVISIBLE;
import static dev.pinnace.conformance.Clients.COLLECT_LIMIT;
import static dev.pinnace.conformance.Clients.INVISIBLE;
import static dev.pinnace.conformance.Clients.body;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.collect;
import static dev.pinnace.conformance.Clients.send;
import static dev.pinnace.conformance.Clients.waitFor;
import static dev.pinnace.conformance.Steps.EARLY_SECONDS;
import static dev.pinnace.conformance.Steps.bodies;
import static dev.pinnace.conformance.Steps.checkBodies;
import static dev.pinnace.conformance.Steps.checkDeadLetter;
import static dev.pinnace.conformance.Steps.checkInOrder;
import static dev.pinnace.conformance.Steps.messageGroup;
import static dev.pinnace.conformance.Steps.receiveOne;
import static dev.pinnace.conformance.Steps.secondsSince;
import static dev.pinnace.conformance.Steps.sendInGroups;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Cases of messages in order per message group. */
final class FifoCases {
    private FifoCases() {}

    static Map<String, Main.Case> all() {
        return Map.ofEntries(
                Map.entry("fifo-order", FifoCases::order),
                Map.entry("fifo-order-push", FifoCases::orderPush),
                Map.entry("fifo-one-in-flight", FifoCases::oneInFlight),
                Map.entry("fifo-redelivery", FifoCases::redelivery),
                Map.entry("fifo-push-retry", FifoCases::pushRetry),
                Map.entry("fifo-dead-letter", FifoCases::deadLetter),
                Map.entry("fifo-push-dead-letter", FifoCases::pushDeadLetter),
                Map.entry("fifo-two-producers", FifoCases::twoProducers),
                Map.entry("fifo-point-to-point", FifoCases::pointToPoint),
                Map.entry("fifo-throughput", clients -> pushWhileSending(clients, 20, 25)),
                Map.entry("fifo-many-groups", clients -> pushWhileSending(clients, 150, 2)));
    }

    private static String order(Clients clients) throws Exception {
        sendInGroups(clients, 6, 10);
        checkInOrder(collect(clients.simple(), 60), 6, 10, Steps::messageGroup);
        return "";
    }

    private static void checkHeardInOrder(Clients.Heard heard, int groups, int each) {
        int total = groups * each;
        heard.waitForCount(COLLECT_LIMIT, total);
        check(!heard.waitForCount(Duration.ofSeconds(1), total + 1), "a message came twice");
        checkInOrder(heard.all(), groups, each, Steps::messageGroup);
    }

    private static String orderPush(Clients clients) throws Exception {
        sendInGroups(clients, 6, 10);
        checkHeardInOrder(clients.push(clients.options.group(), view -> true), 6, 10);
        return "";
    }

    private static String pushWhileSending(Clients clients, int groups, int each)
            throws Exception {
        Clients.Heard heard = clients.push(clients.options.group(), view -> true);
        long began = System.nanoTime();
        sendInGroups(clients, groups, each);
        checkHeardInOrder(heard, groups, each);
        List<Clients.Arrival> arrivals = heard.arrivals();
        double took = (arrivals.get(arrivals.size() - 1).atNanos() - began) / 1e9;
        return String.format("%d messages in %.1f s", groups * each, took);
    }

    /** Messages "a-0" and the like; the letter is the message group. */
    private static void sendNamed(Clients clients, String... names) throws ClientException {
        Producer producer = clients.producer();
        for (String name : names) {
            send(producer, clients.message(name).setMessageGroup(name.substring(0, 1)));
        }
    }

    private static String oneInFlight(Clients clients) throws Exception {
        sendNamed(clients, "a-0", "a-1", "b-0", "b-1");
        SimpleConsumer first = clients.simple();
        SimpleConsumer second = clients.simple();
        List<MessageView> held = List.of(
                receiveOne(first, COLLECT_INVISIBLE), receiveOne(first, COLLECT_INVISIBLE));
        List<String> came = bodies(held).stream().sorted().toList();
        check(came.equals(List.of("a-0", "b-0")), came + " came first");
        int early = Clients.receiveDuring(second, Duration.ofSeconds(1)).size();
        check(early == 0, early + " messages came too early");
        for (MessageView view : held) {
            first.ack(view);
            checkBodies(collect(second, 1), messageGroup(view) + "-1");
        }
        return "";
    }

    private static String redelivery(Clients clients) throws Exception {
        sendNamed(clients, "a-0", "a-1", "a-2");
        SimpleConsumer consumer = clients.simple();
        receiveOne(consumer, INVISIBLE);
        long received = System.nanoTime();
        MessageView again = receiveOne(consumer, COLLECT_INVISIBLE);
        String detail = String.format("came again after %.1f s", secondsSince(received));
        check(secondsSince(received) >= INVISIBLE.toSeconds() - EARLY_SECONDS, detail);
        check(again.getDeliveryAttempt() == 2, "delivery attempt " + again.getDeliveryAttempt());
        consumer.ack(again);
        List<MessageView> views = new ArrayList<>(List.of(again));
        views.addAll(collect(consumer, 2));
        checkBodies(views, "a-0", "a-1", "a-2");
        return detail;
    }

    private static boolean isBody(MessageView view, String text) {
        return new String(body(view)).equals(text);
    }

    private static String pushRetry(Clients clients) throws Exception {
        sendNamed(clients, "a-0", "b-0", "a-1", "b-1", "a-2", "b-2");
        AtomicBoolean failed = new AtomicBoolean();
        Clients.Heard heard = clients.push(clients.options.group(),
                view -> !isBody(view, "a-1") || failed.getAndSet(true));
        heard.waitForCount(COLLECT_LIMIT, 7);
        check(!heard.waitForCount(Duration.ofSeconds(1), 8), "a message came too often");
        checkBodies(ofGroup(heard, "a"), "a-0", "a-1", "a-1", "a-2");
        checkBodies(ofGroup(heard, "b"), "b-0", "b-1", "b-2");
        return "";
    }

    private static List<MessageView> ofGroup(Clients.Heard heard, String group) {
        return heard.all().stream().filter(view -> messageGroup(view).equals(group)).toList();
    }

    private static String sendPoison(Clients clients) throws ClientException {
        return send(clients.producer(), Steps.poison(clients).setMessageGroup("a"));
    }

    private static String deadLetter(Clients clients) throws Exception {
        String sent = sendPoison(clients);
        sendNamed(clients, "a-1");
        SimpleConsumer consumer = clients.simple();
        for (int attempt = 1; attempt <= 2; attempt++) {
            MessageView view = receiveOne(consumer, INVISIBLE);
            checkBodies(List.of(view), "poison");
            check(view.getDeliveryAttempt() == attempt,
                    "delivery attempt " + view.getDeliveryAttempt());
            consumer.changeInvisibleDuration(view, Duration.ofSeconds(1));
        }
        checkBodies(collect(consumer, 1), "a-1");
        return checkDeadLetter(clients, sent);
    }

    private static String pushDeadLetter(Clients clients) throws Exception {
        String sent = sendPoison(clients);
        sendNamed(clients, "a-1");
        Clients.Heard heard =
                clients.push(clients.options.group(), view -> !isBody(view, "poison"));
        heard.waitForCount(COLLECT_LIMIT, 3);
        String detail = checkDeadLetter(clients, sent);
        checkBodies(heard.all(), "poison", "poison", "a-1");
        return detail;
    }

    private static String twoProducers(Clients clients) throws Exception {
        List<Producer> producers = List.of(clients.producer(), clients.producer());
        for (int n = 0; n < 30; n++) {
            send(producers.get(n % 2), clients.message("" + n).setMessageGroup("shared"));
        }
        checkInOrder(collect(clients.simple(), 30), 1, 30, Steps::messageGroup);
        return "";
    }

    private static String pointToPoint(Clients clients) throws Exception {
        Clients.Heard first = clients.push(clients.options.group(), view -> true);
        Clients.Heard second = clients.push(clients.options.group(), view -> true);
        sendInGroups(clients, 20, 10);
        waitFor(COLLECT_LIMIT, () -> first.all().size() + second.all().size() >= 200);
        check(!waitFor(Duration.ofSeconds(1),
                () -> first.all().size() + second.all().size() > 200), "a message came twice");
        List<Clients.Arrival> both = new ArrayList<>(first.arrivals());
        both.addAll(second.arrivals());
        both.sort(Comparator.comparingLong(Clients.Arrival::atNanos));
        checkInOrder(both.stream().map(Clients.Arrival::view).toList(), 20, 10,
                Steps::messageGroup);
        check(!first.all().isEmpty() && !second.all().isEmpty(), "one consumer got everything");
        return first.all().size() + " and " + second.all().size();
    }
}
