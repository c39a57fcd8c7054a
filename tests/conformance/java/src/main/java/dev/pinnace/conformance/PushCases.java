package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.COLLECT_LIMIT;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.id;
import static dev.pinnace.conformance.Clients.sortedIds;
import static dev.pinnace.conformance.Clients.waitFor;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Cases of push consumers, and those in which the broker is killed and started again. */
final class PushCases {
    private static final int PUSH_MESSAGES = 200;

    private PushCases() {}

    static Map<String, Main.Case> all() {
        return Map.of(
                "push", PushCases::push,
                "push-retry", PushCases::pushRetry,
                "point-to-point", PushCases::pointToPoint,
                "publish-subscribe", PushCases::publishSubscribe,
                "push-dead-letter", PushCases::pushDeadLetter,
                "restart", PushCases::restart,
                "restart-push", PushCases::restartPush);
    }

    private static void checkEachOnce(List<MessageView> got, List<String> sent) {
        check(sortedIds(got).equals(sent.stream().sorted().toList()),
                got.size() + " deliveries for " + sent.size() + " messages");
    }

    private static String push(Clients clients) throws Exception {
        Clients.Heard heard = clients.push(clients.options.group(), view -> true);
        List<String> sent = clients.sendAll(clients.producer(), PUSH_MESSAGES);
        heard.waitForCount(COLLECT_LIMIT, PUSH_MESSAGES);
        check(!heard.waitForCount(Duration.ofSeconds(3), PUSH_MESSAGES + 1),
                "a message came twice");
        checkEachOnce(heard.all(), sent);
        return "";
    }

    private static void checkTwoAttempts(Clients.Heard heard, String sent) {
        List<MessageView> got = heard.all();
        check(got.size() == 2, got.size() + " deliveries");
        for (int n = 0; n < 2; n++) {
            check(id(got.get(n)).equals(sent), "another message came");
            check(got.get(n).getDeliveryAttempt() == n + 1,
                    "delivery attempt " + got.get(n).getDeliveryAttempt());
        }
    }

    private static String pushRetry(Clients clients) throws Exception {
        Clients.Heard heard =
                clients.push(clients.options.group(), view -> view.getDeliveryAttempt() > 1);
        String sent = clients.sendAll(clients.producer(), 1).get(0);
        heard.waitForCount(Duration.ofSeconds(40), 2);
        check(!heard.waitForCount(Duration.ofSeconds(2), 3), "came a third time");
        checkTwoAttempts(heard, sent);
        return "";
    }

    private static String pointToPoint(Clients clients) throws Exception {
        Clients.Heard first = clients.push(clients.options.group(), view -> true);
        Clients.Heard second = clients.push(clients.options.group(), view -> true);
        List<String> sent = clients.sendAll(clients.producer(), PUSH_MESSAGES);
        waitFor(COLLECT_LIMIT, () -> first.all().size() + second.all().size() >= PUSH_MESSAGES);
        waitFor(Duration.ofSeconds(3),
                () -> first.all().size() + second.all().size() > PUSH_MESSAGES);
        List<MessageView> handled = new ArrayList<>(first.all());
        handled.addAll(second.all());
        checkEachOnce(handled, sent);
        check(!first.all().isEmpty() && !second.all().isEmpty(), "one consumer got everything");
        return first.all().size() + " and " + second.all().size();
    }

    private static String publishSubscribe(Clients clients) throws Exception {
        Clients.Heard first = clients.push(clients.options.group(), view -> true);
        Clients.Heard second = clients.push(clients.options.secondGroup(), view -> true);
        List<String> sent = clients.sendAll(clients.producer(), PUSH_MESSAGES);
        for (Clients.Heard heard : List.of(first, second)) {
            heard.waitForCount(COLLECT_LIMIT, PUSH_MESSAGES);
            checkEachOnce(heard.all(), sent);
        }
        return "";
    }

    private static String pushDeadLetter(Clients clients) throws Exception {
        Clients.Heard heard = clients.push(clients.options.group(), view -> false);
        String sent = SimpleCases.sendPoison(clients);
        heard.waitForCount(Duration.ofSeconds(40), 2);
        String detail = SimpleCases.checkDeadLetter(clients, sent);
        checkTwoAttempts(heard, sent);
        return detail;
    }

    /** Asks the driver to kill and restart the broker; the answer turns true when done. */
    private static AtomicBoolean requestRestart() {
        AtomicBoolean done = new AtomicBoolean();
        System.out.println("{\"event\": \"restart\"}");
        System.out.flush();
        Thread waiting = new Thread(() -> {
            try {
                System.in.read();
                done.set(true);
            } catch (java.io.IOException closed) {
                throw new IllegalStateException(closed);
            }
        });
        waiting.setDaemon(true);
        waiting.start();
        return done;
    }

    private record Sent(List<String> ids, int failures) {
        String detail() {
            return ids.size() + " sent meanwhile, " + failures + " sends failed";
        }
    }

    /** Sends all the time while the broker goes and comes; the ids which were answered. */
    private static Sent sendThroughRestart(Clients clients, Producer producer) {
        AtomicBoolean done = requestRestart();
        List<String> ids = new ArrayList<>();
        int failures = 0;
        int after = 0;
        long ends = System.nanoTime() + Duration.ofSeconds(45).toNanos();
        while (after < 20) {
            check(System.nanoTime() < ends,
                    "the producer did not recover (" + failures + " errors)");
            boolean restarted = done.get();
            try {
                ids.add(Clients.send(producer, clients.message("through the restart")));
                after += restarted ? 1 : 0;
            } catch (ClientException | RuntimeException failed) {
                failures++;
            }
            Clients.pause(50);
        }
        return new Sent(ids, failures);
    }

    private static String restart(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SimpleConsumer consumer = clients.simple();
        Set<String> expected = new HashSet<>(clients.sendAll(producer, 20));
        List<String> done = sortedIds(Clients.receiveUntil(consumer, 10, Clients.INVISIBLE, true));
        expected.removeAll(done);
        Sent sent = sendThroughRestart(clients, producer);
        expected.addAll(sent.ids());
        int count = expected.size();
        waitFor(COLLECT_LIMIT, () -> {
            try {
                for (MessageView view : consumer.receive(16, Clients.INVISIBLE)) {
                    check(!done.contains(id(view)), "an acknowledged message came again");
                    expected.remove(id(view));
                    consumer.ack(view);
                }
            } catch (ClientException recovering) {
                return false;
            }
            return expected.isEmpty();
        });
        check(expected.isEmpty(), expected.size() + " of " + count + " messages lost");
        return sent.detail();
    }

    private static String restartPush(Clients clients) throws Exception {
        Producer producer = clients.producer();
        Clients.Heard heard = clients.push(clients.options.group(), view -> true);
        Set<String> expected = new HashSet<>(clients.sendAll(producer, 20));
        check(heard.waitForCount(COLLECT_LIMIT, 20), "no delivery before the restart");
        Sent sent = sendThroughRestart(clients, producer);
        expected.addAll(sent.ids());
        waitFor(COLLECT_LIMIT, () -> sortedIds(heard.all()).containsAll(expected));
        int count = expected.size();
        expected.removeAll(sortedIds(heard.all()));
        check(expected.isEmpty(), expected.size() + " of " + count + " messages did not come");
        return sent.detail();
    }
}
