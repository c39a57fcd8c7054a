package dev.pinnace.conformance;

import static dev.pinnace.conformance.Clients.AWAIT;
import static dev.pinnace.conformance.Clients.INVISIBLE;
import static dev.pinnace.conformance.Clients.body;
import static dev.pinnace.conformance.Clients.check;
import static dev.pinnace.conformance.Clients.collect;
import static dev.pinnace.conformance.Clients.id;
import static dev.pinnace.conformance.Clients.receiveDuring;
import static dev.pinnace.conformance.Clients.receiveUntil;
import static dev.pinnace.conformance.Clients.send;
import static dev.pinnace.conformance.Clients.sortedIds;
import static dev.pinnace.conformance.Steps.EARLY_SECONDS;
import static dev.pinnace.conformance.Steps.checkDeadLetter;
import static dev.pinnace.conformance.Steps.expectRefusal;
import static dev.pinnace.conformance.Steps.secondsSince;
import static dev.pinnace.conformance.Steps.sendPoison;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Cases of producers and simple consumers. */
final class SimpleCases {
    private SimpleCases() {}

    static Map<String, Main.Case> all() {
        return Map.ofEntries(
                Map.entry("send", SimpleCases::sendOne),
                Map.entry("properties", SimpleCases::properties),
                Map.entry("bodies", SimpleCases::bodies),
                Map.entry("ack", SimpleCases::ack),
                Map.entry("redelivery", SimpleCases::redelivery),
                Map.entry("change-invisible", SimpleCases::changeInvisible),
                Map.entry("tag-filter", SimpleCases::tagFilter),
                Map.entry("dead-letter", SimpleCases::deadLetter),
                Map.entry("unknown-topic", SimpleCases::unknownTopic),
                Map.entry("wrong-type", SimpleCases::wrongType),
                Map.entry("oversize", SimpleCases::oversize),
                Map.entry("tls", SimpleCases::tls),
                Map.entry("long-poll", SimpleCases::longPoll),
                Map.entry("empty-receive", SimpleCases::emptyReceive),
                Map.entry("shutdown", SimpleCases::shutdown),
                Map.entry("ack-twice", SimpleCases::ackTwice));
    }

    private static String sendOne(Clients clients) throws Exception {
        String id = send(clients.producer(), clients.message("hello"));
        check(!id.isEmpty(), "the receipt has no message id");
        return "message id " + id;
    }

    private static String properties(Clients clients) throws Exception {
        MessageBuilder message = clients.message("hello")
                .setTag("tag-a")
                .setKeys("key-1", "key-2")
                .addProperty("colour", "blue")
                .addProperty("name", "gr\u00fcn");
        String id = send(clients.producer(), message);
        MessageView got = collect(clients.simple(), 1).get(0);
        check(id(got).equals(id), "message id " + id(got));
        check(got.getTopic().equals(clients.options.topic()), "topic " + got.getTopic());
        check(new String(body(got)).equals("hello"), "body " + new String(body(got)));
        check(got.getTag().orElse("").equals("tag-a"), "tag " + got.getTag());
        check(Set.copyOf(got.getKeys()).equals(Set.of("key-1", "key-2")), "keys " + got.getKeys());
        check(got.getProperties().equals(Map.of("colour", "blue", "name", "gr\u00fcn")),
                "properties " + got.getProperties());
        check(got.getDeliveryAttempt() == 1, "delivery attempt " + got.getDeliveryAttempt());
        return "";
    }

    private static byte[] pattern(int size) {
        byte[] bytes = new byte[size];
        for (int n = 0; n < size; n++) {
            bytes[n] = (byte) ((n % 251 * 31 + size) % 251);
        }
        return bytes;
    }

    private static String bodies(Clients clients) throws Exception {
        List<Integer> sizes = List.of(1, 1024, 1024 * 1024, clients.options.largeBodyBytes());
        Producer producer = clients.producer();
        for (int size : sizes) {
            send(producer, clients.message(pattern(size)));
        }
        List<Integer> got = new ArrayList<>();
        for (MessageView view : collect(clients.simple(), sizes.size())) {
            byte[] body = body(view);
            check(Arrays.equals(body, pattern(body.length)), body.length + " bytes changed");
            got.add(body.length);
        }
        got.sort(null);
        check(got.equals(sizes), "sizes " + got);
        return "up to " + clients.options.largeBodyBytes() + " bytes";
    }

    private static String ack(Clients clients) throws Exception {
        clients.sendAll(clients.producer(), 3);
        SimpleConsumer consumer = clients.simple();
        receiveUntil(consumer, 3, INVISIBLE, true);
        int late = receiveDuring(consumer, INVISIBLE.plusSeconds(3)).size();
        check(late == 0, late + " acknowledged messages came again");
        return "";
    }

    private static String redelivery(Clients clients) throws Exception {
        List<String> sent = clients.sendAll(clients.producer(), 1);
        SimpleConsumer consumer = clients.simple();
        MessageView first = receiveUntil(consumer, 1, INVISIBLE, false).get(0);
        long received = System.nanoTime();
        check(first.getDeliveryAttempt() == 1,
                "first delivery attempt " + first.getDeliveryAttempt());
        MessageView again = collect(consumer, 1).get(0);
        double waited = secondsSince(received);
        check(sent.contains(id(again)), "another message came");
        check(again.getDeliveryAttempt() == 2,
                "second delivery attempt " + again.getDeliveryAttempt());
        String detail = String.format("came again after %.1f s", waited);
        long invisible = INVISIBLE.toSeconds();
        check(waited >= invisible - EARLY_SECONDS && waited <= invisible + 6, detail);
        return detail;
    }

    private static String changeInvisible(Clients clients) throws Exception {
        clients.sendAll(clients.producer(), 2);
        SimpleConsumer consumer = clients.simple();
        List<MessageView> views = receiveUntil(consumer, 2, INVISIBLE, false);
        MessageView later = views.get(0);
        MessageView done = views.get(1);
        long changed = System.nanoTime();
        consumer.changeInvisibleDuration(later, INVISIBLE.plusSeconds(4));
        consumer.changeInvisibleDuration(done, INVISIBLE.plusSeconds(1));
        consumer.ack(done);
        List<Clients.Arrival> arrivals = receiveDuring(consumer, INVISIBLE.plusSeconds(6));
        check(arrivals.size() == 1,
                arrivals.size() + " messages came instead of the one not acknowledged");
        MessageView again = arrivals.get(0).view();
        double waited = (arrivals.get(0).atNanos() - changed) / 1e9;
        String detail = String.format("came again after %.1f s", waited);
        check(id(again).equals(id(later)), "the acknowledged message came again");
        check(waited >= INVISIBLE.toSeconds() + 4 - EARLY_SECONDS, detail);
        check(again.getDeliveryAttempt() == 2, "delivery attempt " + again.getDeliveryAttempt());
        consumer.ack(again);
        return detail;
    }

    private static String tagFilter(Clients clients) throws Exception {
        Producer producer = clients.producer();
        for (int n = 0; n < 5; n++) {
            for (String tag : List.of("a", "b", "c", "")) {
                MessageBuilder message = clients.message("tagged " + tag);
                send(producer, tag.isEmpty() ? message : message.setTag(tag));
            }
        }
        SimpleConsumer consumer = clients.simple(
                clients.options.group(), clients.options.topic(), "a || b", AWAIT);
        Stream<MessageView> got = Stream.concat(
                collect(consumer, 10).stream(),
                receiveDuring(consumer, Duration.ofSeconds(2)).stream().map(Clients.Arrival::view));
        List<String> tags = got.map(view -> view.getTag().orElse("none")).sorted().toList();
        check(String.join("", tags).equals("aaaaabbbbb"), "tags " + tags);
        return "";
    }

    private static String deadLetter(Clients clients) throws Exception {
        String sent = sendPoison(clients);
        SimpleConsumer consumer = clients.simple();
        for (int attempt = 1; attempt <= 2; attempt++) {
            MessageView view = receiveUntil(consumer, 1, INVISIBLE, false).get(0);
            check(view.getDeliveryAttempt() == attempt,
                    "delivery attempt " + view.getDeliveryAttempt());
            consumer.changeInvisibleDuration(view, Duration.ofSeconds(1));
        }
        check(receiveDuring(consumer, Duration.ofSeconds(2)).isEmpty(), "came a third time");
        return checkDeadLetter(clients, sent);
    }

    private static String unknownTopic(Clients clients) {
        String topic = clients.options.unknownTopic();
        return expectRefusal(
                () -> send(clients.producer(topic), clients.message("nowhere").setTopic(topic)),
                "TOPIC_NOT_FOUND", "40402", topic);
    }

    private static String wrongType(Clients clients) throws Exception {
        Producer producer = clients.producer();
        return expectRefusal(
                () -> send(producer, clients.message("ordered").setMessageGroup("order-1")),
                "type", "TYPE", "40014");
    }

    private static String oversize(Clients clients) throws Exception {
        Producer producer = clients.producer();
        byte[] body = new byte[4 * 1024 * 1024 + 1];
        return expectRefusal(() -> send(producer, clients.message(body)),
                "size", "large", "LARGE", "4194304", "exceed");
    }

    private static String tls(Clients clients) throws Exception {
        List<String> sent = clients.sendAll(clients.producer(), 3);
        List<MessageView> got = collect(clients.simple(), 3);
        check(new HashSet<>(sortedIds(got)).equals(new HashSet<>(sent)), got.size() + " messages");
        return "";
    }

    private static String longPoll(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SimpleConsumer consumer = clients.simple(
                clients.options.group(), clients.options.topic(), "*", Duration.ofSeconds(10));
        List<Long> delaysMs = new ArrayList<>();
        for (int n = 0; n < 5; n++) {
            CompletableFuture<Long> arrived = consumer.receiveAsync(16, Clients.COLLECT_INVISIBLE)
                    .thenApply(views -> {
                        check(views.size() == 1, "the waiting receive got " + views.size());
                        long at = System.nanoTime();
                        consumer.ackAsync(views.get(0)).join();
                        return at;
                    });
            Clients.pause(500);
            long began = System.nanoTime();
            clients.sendAll(producer, 1);
            delaysMs.add((arrived.get() - began) / 1_000_000);
        }
        delaysMs.sort(null);
        check(delaysMs.get(2) <= 500 && delaysMs.get(4) <= 2000, "delays " + delaysMs + " ms");
        return "median " + delaysMs.get(2) + " ms";
    }

    private static String emptyReceive(Clients clients) throws Exception {
        SimpleConsumer consumer = clients.simple(
                clients.options.group(), clients.options.topic(), "*", Duration.ofSeconds(6));
        long began = System.nanoTime();
        check(consumer.receive(16, INVISIBLE).isEmpty(), "a message came from nowhere");
        double waited = secondsSince(began);
        String detail = String.format("returned after %.1f s", waited);
        check(waited >= 4.8 && waited <= 9.5, detail);
        return detail;
    }

    private static String shutdown(Clients clients) throws Exception {
        Producer producer = clients.producer();
        SimpleConsumer consumer = clients.simple();
        clients.sendAll(producer, 1);
        collect(consumer, 1);
        long began = System.nanoTime();
        consumer.close();
        producer.close();
        String detail = String.format("took %.1f s", secondsSince(began));
        check(secondsSince(began) <= 10, detail);
        return detail;
    }

    private static String ackTwice(Clients clients) throws Exception {
        clients.sendAll(clients.producer(), 1);
        SimpleConsumer consumer = clients.simple();
        consumer.ack(collect(consumer, 1).get(0));
        check(receiveDuring(consumer, Duration.ofSeconds(1)).isEmpty(), "came again");
        return "";
    }
}
