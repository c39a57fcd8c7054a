package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.INVISIBLE;
import static dev.pinnace.conformance.Clients.body;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.collect;
import static dev.pinnace.conformance.Clients.send;
import static dev.pinnace.conformance.Steps.checkBodies;
import static dev.pinnace.conformance.Steps.checkDeadLetter;
import static dev.pinnace.conformance.Steps.checkEachOnce;
import static dev.pinnace.conformance.Steps.collectAndMore;
import static dev.pinnace.conformance.Steps.receiveDeadLetter;
import static dev.pinnace.conformance.Steps.receiveOne;
import static dev.pinnace.conformance.Steps.sendPoison;

import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Cases of what an operator does: dead letters brought back, progress set anew. */
final class OperationCases {
    private OperationCases() {}

    static Map<String, Main.Case> all() {
        return Map.of(
                "dead-letter-origin", OperationCases::deadLetterOrigin,
                "redrive", OperationCases::redrive,
                "reset-earliest", OperationCases::resetEarliest,
                "reset-timestamp", OperationCases::resetTimestamp,
                "reset-latest", OperationCases::resetLatest);
    }

    /** Two failed attempts; the message as it was delivered. */
    private static MessageView letDie(SimpleConsumer consumer) throws ClientException {
        MessageView view = null;
        for (int attempt = 1; attempt <= 2; attempt++) {
            view = receiveOne(consumer, INVISIBLE);
            consumer.changeInvisibleDuration(view, Duration.ofSeconds(1));
        }
        return view;
    }

    private static String deadLetterOrigin(Clients clients) throws Exception {
        sendPoison(clients);
        MessageView was = letDie(clients.simple());
        MessageView dead = receiveDeadLetter(clients);
        Map<String, Function<MessageView, Object>> parts = Map.of(
                "message id", Clients::id,
                "body", view -> new String(body(view)),
                "tag", MessageView::getTag,
                "keys", view -> List.copyOf(view.getKeys()),
                "properties", MessageView::getProperties,
                "born host", MessageView::getBornHost,
                "born timestamp", MessageView::getBornTimestamp);
        parts.forEach((what, of) -> check(of.apply(dead).equals(of.apply(was)),
                what + " " + of.apply(dead) + " instead of " + of.apply(was)));
        check(dead.getDeliveryAttempt() == 1, "delivery attempt " + dead.getDeliveryAttempt());
        return "topic " + dead.getTopic();
    }

    private static String redrive(Clients clients) throws Exception {
        String sent = sendPoison(clients);
        SimpleConsumer consumer = clients.simple();
        letDie(consumer);
        checkDeadLetter(clients, sent);
        Steps.ask("redrive").get();
        MessageView view = collect(consumer, 1).get(0);
        checkBodies(List.of(view), "poison");
        check(view.getTag().orElse("").equals("tag-a"), "tag " + view.getTag());
        check(view.getDeliveryAttempt() == 1, "delivery attempt " + view.getDeliveryAttempt());
        return Steps.idKept(view, sent);
    }

    private static String resetEarliest(Clients clients) throws Exception {
        List<String> sent = clients.sendAll(clients.producer(), 20);
        SimpleConsumer consumer = clients.simple();
        collect(consumer, 20);
        Steps.askReset("earliest").get();
        checkEachOnce(collect(consumer, 20), sent);
        return "";
    }

    private static String resetTimestamp(Clients clients) throws Exception {
        Producer producer = clients.producer();
        clients.sendAll(producer, 10);
        Instant between = Instant.now().truncatedTo(ChronoUnit.SECONDS).plusSeconds(1);
        Clients.pause(Instant.now().until(between, ChronoUnit.MILLIS) + 1);
        List<String> after = clients.sendAll(producer, 10);
        SimpleConsumer consumer = clients.simple();
        collect(consumer, 20);
        Steps.askReset(between.toString()).get();
        checkEachOnce(collectAndMore(consumer, 10, Duration.ofSeconds(1)), after);
        return "";
    }

    private static String resetLatest(Clients clients) throws Exception {
        Producer producer = clients.producer();
        clients.sendAll(producer, 10);
        SimpleConsumer consumer = clients.simple();
        consumer.ack(receiveOne(consumer, INVISIBLE));
        Steps.askReset("latest").get();
        send(producer, clients.message("next"));
        checkBodies(collectAndMore(consumer, 1, Duration.ofSeconds(1)), "next");
        return "";
    }
}
