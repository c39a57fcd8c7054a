// Cases of producers and simple consumers.

package main

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

func sendCase(c *clients) string {
	id := must(send(c.producer(), c.message("hello")))
	check(id != "", "the receipt has no message id")
	return "message id " + id
}

func properties(c *clients) string {
	message := c.message("hello")
	message.SetTag("tag-a")
	message.SetKeys("key-1", "key-2")
	message.AddProperty("colour", "blue")
	message.AddProperty("name", "gr\u00fcn")
	id := must(send(c.producer(), message))
	got := collect(c.simple(), 1)[0]
	check(got.GetMessageId() == id, "message id %s", got.GetMessageId())
	check(got.GetTopic() == c.given.topic, "topic %s", got.GetTopic())
	check(string(got.GetBody()) == "hello", "body %q", got.GetBody())
	check(text(got.GetTag()) == "tag-a", "tag %s", text(got.GetTag()))
	check(reflect.DeepEqual(sorted(got.GetKeys()), []string{"key-1", "key-2"}), "keys %v", got.GetKeys())
	wanted := map[string]string{"colour": "blue", "name": "gr\u00fcn"}
	check(reflect.DeepEqual(got.GetProperties(), wanted), "properties %v", got.GetProperties())
	check(got.GetDeliveryAttempt() == 1, "delivery attempt %d", got.GetDeliveryAttempt())
	return ""
}

func pattern(size int) []byte {
	body := make([]byte, size)
	for n := range body {
		body[n] = byte((n%251*31 + size) % 251)
	}
	return body
}

func bodies(c *clients) string {
	sizes := []int{1, 1024, 1024 * 1024, c.given.largeBodyBytes}
	producer := c.producer()
	for _, size := range sizes {
		must(send(producer, &rmq.Message{Topic: c.given.topic, Body: pattern(size)}))
	}
	got := []int{}
	for _, view := range collect(c.simple(), len(sizes)) {
		got = append(got, len(view.GetBody()))
		check(bytes.Equal(view.GetBody(), pattern(len(view.GetBody()))), "%d bytes changed", len(view.GetBody()))
	}
	slices.Sort(got)
	check(slices.Equal(got, sizes), "sizes %v", got)
	return fmt.Sprintf("up to %d bytes", c.given.largeBodyBytes)
}

func ack(c *clients) string {
	c.sendAll(c.producer(), 3)
	consumer, received := c.simple(), time.Now()
	receiveUntil(consumer, 3, invisibleDuration, true)
	late := receiveDuring(consumer, time.Until(received.Add(invisibleDuration+3*time.Second)))
	check(len(late) == 0, "%d acknowledged messages came again", len(late))
	return ""
}

func redelivery(c *clients) string {
	sent := c.sendAll(c.producer(), 1)
	consumer := c.simple()
	first := receiveUntil(consumer, 1, invisibleDuration, false)[0]
	received := time.Now()
	check(first.GetDeliveryAttempt() == 1, "first delivery attempt %d", first.GetDeliveryAttempt())
	again := collect(consumer, 1)[0]
	waited := time.Since(received)
	check(again.GetMessageId() == sent[0], "another message came")
	check(again.GetDeliveryAttempt() == 2, "second delivery attempt %d", again.GetDeliveryAttempt())
	check(waited >= invisibleDuration-early && waited <= invisibleDuration+6*time.Second,
		"came again after %.1f s", waited.Seconds())
	return fmt.Sprintf("came again after %.1f s", waited.Seconds())
}

func changeInvisible(c *clients) string {
	c.sendAll(c.producer(), 2)
	consumer := c.simple()
	views := receiveUntil(consumer, 2, invisibleDuration, false)
	later, done, changed := views[0], views[1], time.Now()
	err := consumer.ChangeInvisibleDuration(later, invisibleDuration+4*time.Second)
	check(err == nil, "change: %v", err)
	err = consumer.ChangeInvisibleDuration(done, invisibleDuration+time.Second)
	check(err == nil, "change: %v", err)
	acknowledgeOne(consumer, done)
	arrivals := receiveDuring(consumer, invisibleDuration+6*time.Second)
	check(len(arrivals) == 1, "%d messages came instead of the one not acknowledged", len(arrivals))
	again := arrivals[0]
	waited := again.at.Sub(changed)
	check(again.view.GetMessageId() == later.GetMessageId(), "the acknowledged message came again")
	check(waited >= invisibleDuration+4*time.Second-early, "came again after %.1f s", waited.Seconds())
	check(again.view.GetDeliveryAttempt() == 2, "delivery attempt %d", again.view.GetDeliveryAttempt())
	acknowledgeOne(consumer, again.view)
	return fmt.Sprintf("came again after %.1f s", waited.Seconds())
}

func tagFilter(c *clients) string {
	producer := c.producer()
	for range 5 {
		for _, tag := range []string{"a", "b", "c", ""} {
			message := c.message("tagged " + tag)
			if tag != "" {
				message.SetTag(tag)
			}
			must(send(producer, message))
		}
	}
	consumer := must(c.startSimple(c.given.group, c.given.topic, rmq.NewFilterExpression("a || b"), awaitDuration))
	tags := []string{}
	for _, view := range collect(consumer, 10) {
		tags = append(tags, text(view.GetTag()))
	}
	for _, one := range receiveDuring(consumer, 2*time.Second) {
		tags = append(tags, text(one.view.GetTag()))
	}
	check(strings.Join(sorted(tags), "") == "aaaaabbbbb", "tags %v", tags)
	return ""
}

func deadLetter(c *clients) string {
	sent, consumer := sendPoison(c), c.simple()
	for attempt := int32(1); attempt <= 2; attempt++ {
		view := receiveUntil(consumer, 1, invisibleDuration, false)[0]
		check(view.GetDeliveryAttempt() == attempt, "delivery attempt %d", view.GetDeliveryAttempt())
		err := consumer.ChangeInvisibleDuration(view, time.Second)
		check(err == nil, "change: %v", err)
	}
	check(len(receiveDuring(consumer, 2*time.Second)) == 0, "came a third time")
	return checkDeadLetter(c, sent)
}

func unknownTopic(c *clients) string {
	producer, err := c.startProducer(c.given.unknownTopic)
	if err == nil {
		_, err = send(producer, &rmq.Message{Topic: c.given.unknownTopic, Body: []byte("nowhere")})
	}
	return expectRefusal(err, "TOPIC_NOT_FOUND", "40402", c.given.unknownTopic)
}

func wrongType(c *clients) string {
	message := c.message("ordered")
	message.SetMessageGroup("order-1")
	_, err := send(c.producer(), message)
	return expectRefusal(err, "type", "TYPE", "40014")
}

func oversize(c *clients) string {
	message := &rmq.Message{Topic: c.given.topic, Body: make([]byte, 4*1024*1024+1)}
	_, err := send(c.producer(), message)
	return expectRefusal(err, "size", "large", "LARGE", "4194304", "exceed")
}

func tls(c *clients) string {
	sent := c.sendAll(c.producer(), 3)
	got := ids(collect(c.simple(), 3))
	check(slices.Equal(sorted(got), sorted(sent)), "%d messages", len(got))
	return ""
}

func longPoll(c *clients) string {
	producer := c.producer()
	consumer := must(c.startSimple(c.given.group, c.given.topic, rmq.SUB_ALL, 10*time.Second))
	delaysMs := []int64{}
	for range 5 {
		arrived := make(chan time.Time, 1)
		go func() {
			views, _ := receive(consumer, collectInvisible)
			at := time.Time{}
			if len(views) == 1 && consumer.Ack(context.Background(), views[0]) == nil {
				at = time.Now()
			}
			arrived <- at
		}()
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		c.sendAll(producer, 1)
		at := <-arrived
		check(!at.IsZero(), "the waiting receive got nothing")
		delaysMs = append(delaysMs, at.Sub(began).Milliseconds())
	}
	slices.Sort(delaysMs)
	check(delaysMs[2] <= 500 && delaysMs[4] <= 2000, "delays %v ms", delaysMs)
	return fmt.Sprintf("median %d ms", delaysMs[2])
}

func emptyReceive(c *clients) string {
	consumer := must(c.startSimple(c.given.group, c.given.topic, rmq.SUB_ALL, 6*time.Second))
	began := time.Now()
	check(len(must(receive(consumer, invisibleDuration))) == 0, "a message came from nowhere")
	waited := time.Since(began).Seconds()
	check(waited >= 4.8 && waited <= 9.5, "returned after %.1f s", waited)
	return fmt.Sprintf("returned after %.1f s", waited)
}

func shutdown(c *clients) string {
	producer, consumer := c.producer(), c.simple()
	c.sendAll(producer, 1)
	collect(consumer, 1)
	began := time.Now()
	for _, stop := range []func() error{consumer.GracefulStop, producer.GracefulStop} {
		err := stop()
		check(err == nil, "stop: %v", err)
	}
	waited := time.Since(began).Seconds()
	check(waited <= 10, "took %.1f s", waited)
	return fmt.Sprintf("took %.1f s", waited)
}

func ackTwice(c *clients) string {
	c.sendAll(c.producer(), 1)
	consumer := c.simple()
	acknowledgeOne(consumer, collect(consumer, 1)[0])
	check(len(receiveDuring(consumer, time.Second)) == 0, "came again")
	return ""
}
