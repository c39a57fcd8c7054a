// Cases of who gets what first: priorities, lite topics, SQL filters and broadcasting.

package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const broadcastMessages = 50

// priority is told by the bodies: this client shows it to producers only.
func priority(c *clients) string {
	producer := c.producer()
	for range 3 {
		for level := range int32(4) {
			message := c.message(fmt.Sprintf("level-%d", level))
			err := message.SetPriority(level)
			check(err == nil, "priority: %v", err)
			must(send(producer, message))
		}
	}
	came := bodiesOf(collect(c.simple(), 12))
	expected := sorted(came)
	slices.Reverse(expected)
	check(slices.Equal(came, expected), "came as %v", came)
	return ""
}

func (c *clients) sendLight(producer rmq.Producer, names []string, places ...int) {
	for _, place := range places {
		for _, name := range names {
			message := c.message(strconv.Itoa(place))
			message.SetLiteTopic(name)
			must(send(producer, message))
		}
	}
}

func subscribeLight(consumer rmq.LitePushConsumer, names ...string) {
	for _, name := range names {
		err := consumer.SubscribeLite(name)
		check(err == nil, "subscribe: %v", err)
	}
}

func liteSubscribe(c *clients) string {
	consumer, heard := c.litePush()
	subscribeLight(consumer, "one", "two")
	c.sendLight(c.producer(), []string{"one", "two", "three"}, 0, 1, 2, 3, 4)
	heard.waitForCount(collectLimit, 10)
	check(!heard.waitForCount(2*time.Second, 11), "too many messages came")
	checkInOrder(heard.got(), 2, 5, (*rmq.MessageView).GetLiteTopic)
	return ""
}

func liteUnsubscribe(c *clients) string {
	consumer, heard := c.litePush()
	producer, names := c.producer(), []string{"one", "two"}
	subscribeLight(consumer, names...)
	c.sendLight(producer, names, 0)
	check(heard.waitForCount(collectLimit, 2), "%d messages of 2 came", len(heard.got()))
	err := consumer.UnSubscribeLite("two")
	check(err == nil, "unsubscribe: %v", err)
	c.sendLight(producer, names, 1, 2, 3)
	heard.waitForCount(collectLimit, 5)
	heard.waitForCount(3*time.Second, 6)
	came := []string{}
	for _, view := range heard.got() {
		came = append(came, fmt.Sprintf("%s-%s", view.GetLiteTopic(), view.GetBody()))
	}
	expected := []string{"one-0", "one-1", "one-2", "one-3", "two-0"}
	check(slices.Equal(sorted(came), expected), "%v came", sorted(came))
	return ""
}

func sql(expression string) *rmq.FilterExpression {
	return rmq.NewFilterExpressionWithType(expression, rmq.SQL92)
}

// sendColoured sends five of each: blue and heavy, blue and light, red and heavy, without
// any property.
func (c *clients) sendColoured() {
	producer := c.producer()
	for range 5 {
		for _, kind := range [][]string{{"blue", "20"}, {"blue", "5"}, {"red", "20"}} {
			message := c.message(kind[0] + "-" + kind[1])
			message.AddProperty("colour", kind[0])
			message.AddProperty("weight", kind[1])
			must(send(producer, message))
		}
		must(send(producer, c.message("plain")))
	}
}

const blueAndHeavy = "colour = 'blue' AND weight > 10"

func sqlFilter(c *clients) string {
	c.sendColoured()
	consumer := must(c.startSimple(c.given.group, c.given.topic, sql(blueAndHeavy), awaitDuration))
	came := collect(consumer, 5)
	came = append(came, viewsOf(receiveDuring(consumer, 2*time.Second))...)
	checkBodies(came, slices.Repeat([]string{"blue-20"}, 5)...)
	return ""
}

func sqlFilterPush(c *clients) string {
	_, heard := c.startPush(c.given.group, sql(blueAndHeavy), always)
	c.sendColoured()
	heard.waitForCount(collectLimit, 5)
	heard.waitForCount(2*time.Second, 6)
	checkBodies(heard.got(), slices.Repeat([]string{"blue-20"}, 5)...)
	return ""
}

func sqlNull(c *clients) string {
	c.sendColoured()
	for _, one := range []struct {
		group, expression string
		expected          []string
	}{
		{c.given.group, "colour <> 'red'", []string{"blue-20", "blue-5"}},
		{c.given.secondGroup, "colour IS NULL", []string{"plain"}},
	} {
		consumer := must(c.startSimple(one.group, c.given.topic, sql(one.expression), awaitDuration))
		views := collect(consumer, len(one.expected)*5)
		views = append(views, viewsOf(receiveDuring(consumer, 2*time.Second))...)
		came := sorted(bodiesOf(views))
		expected := sorted(slices.Repeat(one.expected, 5))
		check(slices.Equal(came, expected), "%v came for %s", came, one.expression)
	}
	return ""
}

func sqlBroken(c *clients) string {
	consumer, err := c.startSimple(c.given.group, c.given.topic, sql("colour = = 'blue' AND"), awaitDuration)
	if err == nil {
		_, err = receive(consumer, invisibleDuration)
	}
	return expectRefusal(err, "ILLEGAL_FILTER_EXPRESSION", "40010")
}

func broadcasting(c *clients) string {
	first, second := c.push(c.given.group, always), c.push(c.given.group, always)
	sent := c.sendAll(c.producer(), broadcastMessages)
	count := func() int { return len(first.got()) + len(second.got()) }
	waitFor(collectLimit, func() bool { return count() >= 2*broadcastMessages })
	waitFor(2*time.Second, func() bool { return count() > 2*broadcastMessages })
	checkEachOnce(ids(first.got()), sent)
	checkEachOnce(ids(second.got()), sent)
	return ""
}

func broadcastingSimple(c *clients) string {
	consumers := []rmq.SimpleConsumer{c.simple(), c.simple()}
	sent := c.sendAll(c.producer(), broadcastMessages)
	for _, consumer := range consumers {
		got := collect(consumer, broadcastMessages)
		got = append(got, viewsOf(receiveDuring(consumer, time.Second))...)
		checkEachOnce(ids(got), sent)
	}
	return ""
}
