// Cases of messages in order per message group.

package main

import (
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

func fifoOrder(c *clients) string {
	c.sendInGroups(6, 10)
	checkInOrder(collect(c.simple(), 60), 6, 10, messageGroup)
	return ""
}

func checkHeardInOrder(heard *listener, groups, each int) {
	heard.waitForCount(collectLimit, groups*each)
	check(!heard.waitForCount(time.Second, groups*each+1), "a message came twice")
	checkInOrder(heard.got(), groups, each, messageGroup)
}

func fifoOrderPush(c *clients) string {
	c.sendInGroups(6, 10)
	checkHeardInOrder(c.push(c.given.group, always), 6, 10)
	return ""
}

func pushWhileSending(c *clients, groups, each int) string {
	heard, began := c.push(c.given.group, always), time.Now()
	c.sendInGroups(groups, each)
	checkHeardInOrder(heard, groups, each)
	arrivals := heard.arrivals()
	took := arrivals[len(arrivals)-1].at.Sub(began)
	return fmt.Sprintf("%d messages in %.1f s", groups*each, took.Seconds())
}

func fifoThroughput(c *clients) string { return pushWhileSending(c, 20, 25) }
func fifoManyGroups(c *clients) string { return pushWhileSending(c, 150, 2) }

// sendNamed sends messages "a-0" and the like; the letter is the message group.
func (c *clients) sendNamed(names ...string) {
	producer := c.producer()
	for _, name := range names {
		must(send(producer, c.inGroup(name[:1], name)))
	}
}

func fifoOneInFlight(c *clients) string {
	c.sendNamed("a-0", "a-1", "b-0", "b-1")
	first, second := c.simple(), c.simple()
	held := []*rmq.MessageView{receiveOne(first, collectInvisible), receiveOne(first, collectInvisible)}
	came := sorted(bodiesOf(held))
	check(slices.Equal(came, []string{"a-0", "b-0"}), "%v came first", came)
	tooEarly := viewsOf(receiveDuring(second, time.Second))
	check(len(tooEarly) == 0, "%v came too early", bodiesOf(tooEarly))
	for _, view := range held {
		acknowledgeOne(first, view)
		checkBodies(collect(second, 1), messageGroup(view)+"-1")
	}
	return ""
}

func fifoRedelivery(c *clients) string {
	c.sendNamed("a-0", "a-1", "a-2")
	consumer := c.simple()
	receiveOne(consumer, invisibleDuration)
	received := time.Now()
	again := receiveOne(consumer, collectInvisible)
	waited := time.Since(received)
	acknowledgeOne(consumer, again)
	check(waited >= invisibleDuration-early, "came again after %.1f s", waited.Seconds())
	check(again.GetDeliveryAttempt() == 2, "delivery attempt %d", again.GetDeliveryAttempt())
	checkBodies(append([]*rmq.MessageView{again}, collect(consumer, 2)...), "a-0", "a-1", "a-2")
	return fmt.Sprintf("came again after %.1f s", waited.Seconds())
}

func fifoPushRetry(c *clients) string {
	c.sendNamed("a-0", "b-0", "a-1", "b-1", "a-2", "b-2")
	var failed atomic.Bool
	heard := c.push(c.given.group, func(view *rmq.MessageView) bool {
		return string(view.GetBody()) != "a-1" || failed.Swap(true)
	})
	heard.waitForCount(collectLimit, 7)
	check(!heard.waitForCount(time.Second, 8), "a message came too often")
	of := func(group string) []*rmq.MessageView {
		return slices.DeleteFunc(heard.got(), func(view *rmq.MessageView) bool { return messageGroup(view) != group })
	}
	checkBodies(of("a"), "a-0", "a-1", "a-1", "a-2")
	checkBodies(of("b"), "b-0", "b-1", "b-2")
	return ""
}

func (c *clients) sendPoisonInGroup() string {
	poison := c.poison()
	poison.SetMessageGroup("a")
	return must(send(c.producer(), poison))
}

func fifoDeadLetter(c *clients) string {
	sent := c.sendPoisonInGroup()
	c.sendNamed("a-1")
	consumer := c.simple()
	for attempt := int32(1); attempt <= 2; attempt++ {
		view := receiveOne(consumer, invisibleDuration)
		checkBodies([]*rmq.MessageView{view}, "poison")
		check(view.GetDeliveryAttempt() == attempt, "delivery attempt %d", view.GetDeliveryAttempt())
		err := consumer.ChangeInvisibleDuration(view, time.Second)
		check(err == nil, "change: %v", err)
	}
	checkBodies(collect(consumer, 1), "a-1")
	return checkDeadLetter(c, sent)
}

func fifoPushDeadLetter(c *clients) string {
	sent := c.sendPoisonInGroup()
	c.sendNamed("a-1")
	heard := c.push(c.given.group, func(view *rmq.MessageView) bool { return string(view.GetBody()) != "poison" })
	heard.waitForCount(collectLimit, 3)
	detail := checkDeadLetter(c, sent)
	checkBodies(heard.got(), "poison", "poison", "a-1")
	return detail
}

func fifoTwoProducers(c *clients) string {
	producers := []rmq.Producer{c.producer(), c.producer()}
	for n := range 30 {
		must(send(producers[n%2], c.inGroup("shared", strconv.Itoa(n))))
	}
	checkInOrder(collect(c.simple(), 30), 1, 30, messageGroup)
	return ""
}

func fifoPointToPoint(c *clients) string {
	first, second := c.push(c.given.group, always), c.push(c.given.group, always)
	c.sendInGroups(20, 10)
	count := func() int { return len(first.got()) + len(second.got()) }
	waitFor(collectLimit, func() bool { return count() >= 200 })
	check(!waitFor(time.Second, func() bool { return count() > 200 }), "a message came twice")
	both := append(first.arrivals(), second.arrivals()...)
	slices.SortStableFunc(both, func(one, other arrival) int { return one.at.Compare(other.at) })
	checkInOrder(viewsOf(both), 20, 10, messageGroup)
	check(len(first.got()) > 0 && len(second.got()) > 0, "one consumer got everything")
	return fmt.Sprintf("%d and %d", len(first.got()), len(second.got()))
}
