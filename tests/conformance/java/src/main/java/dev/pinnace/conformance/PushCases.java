package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.COLLECT_LIMIT;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.id;
import static dev.pinnace.conformance.Clients.sortedIds;
import static dev.pinnace.conformance.Clients.waitFor;
import static dev.pinnace.conformance.Steps.checkDeadLetter;
import static dev.pinnace.conformance.Steps.checkEachOnce;
import static dev.pinnace.conformance.Steps.sendPoison;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.function.Supplier;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
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
                "restart-push", PushCases::restartPush,
                "consumer-leaves", PushCases::consumerLeaves);
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
        String sent = sendPoison(clients);
        heard.waitForCount(Duration.ofSeconds(40), 2);
        String detail = checkDeadLetter(clients, sent);
        checkTwoAttempts(heard, sent);
        return detail;
    }

    private record Sent(List<String> ids, int failures) {
        String detail() {
            return ids.size() + " sent meanwhile, " + failures + " sends failed";
        }
    }

    /** Sends all the time while the broker goes and comes; the ids which were answered. */
    private static Sent sendThroughRestart(Clients clients, Producer producer) {
        CompletableFuture<Void> restarted = Steps.ask("restart");
        List<String> ids = new ArrayList<>();
        int failures = 0;
        int after = 0;
        long ends = System.nanoTime() + Duration.ofSeconds(45).toNanos();
        while (after < 20) {
            check(System.nanoTime() < ends,
                    "the producer did not recover (" + failures + " errors)");
            boolean isBack = restarted.isDone();
            try {
                ids.add(Clients.send(producer, clients.message("through the restart")));
                after += isBack ? 1 : 0;
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

    private static String consumerLeaves(Clients clients) throws Exception {
        Clients.Heard first = new Clients.Heard();
        String group = clients.options.group();
        PushConsumer leaving =
                clients.startPush(group, FilterExpression.SUB_ALL, first, view -> true);
        Clients.Heard second = clients.push(group, view -> true);
        Producer producer = clients.producer();
        List<String> sent = new ArrayList<>(clients.sendAll(producer, 20));
        Supplier<Set<String>> missing = () -> {
            Set<String> left = new HashSet<>(sent);
            left.removeAll(sortedIds(first.all()));
            left.removeAll(sortedIds(second.all()));
            return left;
        };
        waitFor(COLLECT_LIMIT, () -> missing.get().isEmpty());
        CompletableFuture<Void> closing = CompletableFuture.runAsync(() -> {
            try {
                leaving.close();
            } catch (java.io.IOException failed) {
                throw new IllegalStateException(failed);
            }
        });
        while (!closing.isDone()) {
            sent.addAll(clients.sendAll(producer, 1));
            Clients.pause(50);
        }
        closing.get();
        sent.addAll(clients.sendAll(producer, 20));
        waitFor(Duration.ofSeconds(5), () -> missing.get().isEmpty());
        int left = missing.get().size();
        check(left == 0, left + " of " + sent.size() + " messages not handled after 5 s");
        return first.all().size() + " and " + second.all().size();
    }
}
