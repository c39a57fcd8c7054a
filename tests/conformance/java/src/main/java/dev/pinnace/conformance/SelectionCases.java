package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.AWAIT;
import static dev.pinnace.conformance.Clients.COLLECT_LIMIT;
import static dev.pinnace.conformance.Clients.INVISIBLE;
import static dev.pinnace.conformance.Clients.body;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.collect;
import static dev.pinnace.conformance.Clients.send;
import static dev.pinnace.conformance.Clients.waitFor;
import static dev.pinnace.conformance.Steps.bodies;
import static dev.pinnace.conformance.Steps.checkBodies;
import static dev.pinnace.conformance.Steps.checkEachOnce;
import static dev.pinnace.conformance.Steps.checkInOrder;
import static dev.pinnace.conformance.Steps.collectAndMore;
import static dev.pinnace.conformance.Steps.expectRefusal;

import java.time.Duration;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntSupplier;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Cases of who gets what first: priorities, lite topics, SQL filters and broadcasting. */
final class SelectionCases {
    private static final int BROADCAST_MESSAGES = 50;
    private static final FilterExpression BLUE_AND_HEAVY =
            sql("colour = 'blue' AND weight > 10");

    private SelectionCases() {}

    static Map<String, Main.Case> all() {
        return Map.of(
                "priority", SelectionCases::priority,
                "lite-subscribe", SelectionCases::liteSubscribe,
                "lite-unsubscribe", SelectionCases::liteUnsubscribe,
                "sql-filter", SelectionCases::sqlFilter,
                "sql-filter-push", SelectionCases::sqlFilterPush,
                "sql-null", SelectionCases::sqlNull,
                "sql-broken", SelectionCases::sqlBroken,
                "broadcasting", SelectionCases::broadcasting,
                "broadcasting-simple", SelectionCases::broadcastingSimple);
    }

    private static String priority(Clients clients) throws Exception {
        Producer producer = clients.producer();
        for (int round = 0; round < 3; round++) {
            for (int level = 0; level < 4; level++) {
                send(producer, clients.message("level-" + level).setPriority(level));
            }
        }
        List<MessageView> got = collect(clients.simple(), 12);
        List<Integer> came = got.stream().map(view -> view.getPriority().orElse(-1)).toList();
        check(came.equals(came.stream().sorted(Comparator.reverseOrder()).toList()),
                "priorities came as " + came);
        checkBodies(got, came.stream().map(level -> "level-" + level).toArray(String[]::new));
        return "";
    }

    private static void sendLight(
            Clients clients, Producer producer, List<String> names, int from, int to)
            throws ClientException {
        for (int place = from; place < to; place++) {
            for (String name : names) {
                send(producer, clients.message("" + place).setLiteTopic(name));
            }
        }
    }

    private static String lightTopic(MessageView view) {
        return view.getLiteTopic().orElse("");
    }

    private static String liteSubscribe(Clients clients) throws Exception {
        Clients.Heard heard = new Clients.Heard();
        LitePushConsumer consumer = clients.litePush(heard);
        consumer.subscribeLite("one");
        consumer.subscribeLite("two");
        sendLight(clients, clients.producer(), List.of("one", "two", "three"), 0, 5);
        heard.waitForCount(COLLECT_LIMIT, 10);
        check(!heard.waitForCount(Duration.ofSeconds(2), 11), "too many messages came");
        checkInOrder(heard.all(), 2, 5, SelectionCases::lightTopic);
        return "";
    }

    private static String liteUnsubscribe(Clients clients) throws Exception {
        Clients.Heard heard = new Clients.Heard();
        LitePushConsumer consumer = clients.litePush(heard);
        Producer producer = clients.producer();
        consumer.subscribeLite("one");
        consumer.subscribeLite("two");
        sendLight(clients, producer, List.of("one", "two"), 0, 1);
        check(heard.waitForCount(COLLECT_LIMIT, 2), heard.all().size() + " messages of 2 came");
        consumer.unsubscribeLite("two");
        sendLight(clients, producer, List.of("one", "two"), 1, 4);
        heard.waitForCount(COLLECT_LIMIT, 5);
        heard.waitForCount(Duration.ofSeconds(3), 6);
        List<String> came = heard.all().stream()
                .map(view -> lightTopic(view) + "-" + new String(body(view))).sorted().toList();
        check(came.equals(List.of("one-0", "one-1", "one-2", "one-3", "two-0")), came + " came");
        return "";
    }

    private static FilterExpression sql(String expression) {
        return new FilterExpression(expression, FilterExpressionType.SQL92);
    }

    /** Five of each: blue and heavy, blue and light, red and heavy, without any property. */
    private static void sendColoured(Clients clients) throws ClientException {
        Producer producer = clients.producer();
        for (int round = 0; round < 5; round++) {
            for (String kind : List.of("blue-20", "blue-5", "red-20")) {
                MessageBuilder message = clients.message(kind);
                message.addProperty("colour", kind.split("-")[0]);
                send(producer, message.addProperty("weight", kind.split("-")[1]));
            }
            send(producer, clients.message("plain"));
        }
    }

    private static SimpleConsumer filtered(Clients clients, String group, FilterExpression filter)
            throws ClientException {
        return clients.simple(group, clients.options.topic(), filter, AWAIT);
    }

    private static String[] fiveTimes(String body) {
        return Collections.nCopies(5, body).toArray(String[]::new);
    }

    private static String sqlFilter(Clients clients) throws Exception {
        sendColoured(clients);
        SimpleConsumer consumer = filtered(clients, clients.options.group(), BLUE_AND_HEAVY);
        checkBodies(collectAndMore(consumer, 5, Duration.ofSeconds(2)), fiveTimes("blue-20"));
        return "";
    }

    private static String sqlFilterPush(Clients clients) throws Exception {
        Clients.Heard heard = new Clients.Heard();
        clients.startPush(clients.options.group(), BLUE_AND_HEAVY, heard, view -> true);
        sendColoured(clients);
        heard.waitForCount(COLLECT_LIMIT, 5);
        heard.waitForCount(Duration.ofSeconds(2), 6);
        checkBodies(heard.all(), fiveTimes("blue-20"));
        return "";
    }

    private static String sqlNull(Clients clients) throws Exception {
        sendColoured(clients);
        checkKinds(clients, clients.options.group(), "colour <> 'red'",
                Set.of("blue-20", "blue-5"));
        checkKinds(clients, clients.options.secondGroup(), "colour IS NULL", Set.of("plain"));
        return "";
    }

    private static void checkKinds(
            Clients clients, String group, String expression, Set<String> expected)
            throws ClientException {
        SimpleConsumer consumer = filtered(clients, group, sql(expression));
        int count = expected.size() * 5;
        List<String> came = bodies(collectAndMore(consumer, count, Duration.ofSeconds(2)));
        check(new HashSet<>(came).equals(expected) && came.size() == count,
                came + " came for " + expression);
    }

    private static String sqlBroken(Clients clients) {
        return expectRefusal(
                () -> filtered(clients, clients.options.group(), sql("colour = = 'blue' AND"))
                        .receive(16, INVISIBLE),
                "ILLEGAL_FILTER_EXPRESSION", "40010");
    }

    private static String broadcasting(Clients clients) throws Exception {
        Clients.Heard first = clients.push(clients.options.group(), view -> true);
        Clients.Heard second = clients.push(clients.options.group(), view -> true);
        List<String> sent = clients.sendAll(clients.producer(), BROADCAST_MESSAGES);
        IntSupplier count = () -> first.all().size() + second.all().size();
        waitFor(COLLECT_LIMIT, () -> count.getAsInt() >= 2 * BROADCAST_MESSAGES);
        waitFor(Duration.ofSeconds(2), () -> count.getAsInt() > 2 * BROADCAST_MESSAGES);
        checkEachOnce(first.all(), sent);
        checkEachOnce(second.all(), sent);
        return "";
    }

    private static String broadcastingSimple(Clients clients) throws Exception {
        List<SimpleConsumer> consumers = List.of(clients.simple(), clients.simple());
        List<String> sent = clients.sendAll(clients.producer(), BROADCAST_MESSAGES);
        for (SimpleConsumer consumer : consumers) {
            checkEachOnce(
                    collectAndMore(consumer, BROADCAST_MESSAGES, Duration.ofSeconds(1)), sent);
        }
        return "";
    }
}
