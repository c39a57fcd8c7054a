// Cases of what an operator does: dead letters brought back, progress set anew.

package main

import (
	"reflect"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// letDie fails twice to handle the message and returns it as it was delivered.
func letDie(consumer rmq.SimpleConsumer) *rmq.MessageView {
	var view *rmq.MessageView
	for range 2 {
		view = receiveOne(consumer, invisibleDuration)
		err := consumer.ChangeInvisibleDuration(view, time.Second)
		check(err == nil, "change: %v", err)
	}
	return view
}

func deadLetterOrigin(c *clients) string {
	sendPoison(c)
	was := letDie(c.simple())
	dead := collect(openDeadLetters(c), 1)[0]
	for what, values := range map[string][2]any{
		"message id":     {was.GetMessageId(), dead.GetMessageId()},
		"body":           {was.GetBody(), dead.GetBody()},
		"tag":            {was.GetTag(), dead.GetTag()},
		"keys":           {was.GetKeys(), dead.GetKeys()},
		"properties":     {was.GetProperties(), dead.GetProperties()},
		"born host":      {was.GetBornHost(), dead.GetBornHost()},
		"born timestamp": {was.GetBornTimestamp(), dead.GetBornTimestamp()},
	} {
		check(reflect.DeepEqual(values[0], values[1]), "%s %v instead of %v", what, values[1], values[0])
	}
	check(dead.GetDeliveryAttempt() == 1, "delivery attempt %d", dead.GetDeliveryAttempt())
	return "topic " + dead.GetTopic()
}

func redrive(c *clients) string {
	sent, consumer := sendPoison(c), c.simple()
	letDie(consumer)
	checkDeadLetter(c, sent)
	<-ask("redrive", "")
	view := collect(consumer, 1)[0]
	checkBodies([]*rmq.MessageView{view}, "poison")
	check(text(view.GetTag()) == "tag-a", "tag %s", text(view.GetTag()))
	check(view.GetDeliveryAttempt() == 1, "delivery attempt %d", view.GetDeliveryAttempt())
	return idKept(view, sent)
}

func resetEarliest(c *clients) string {
	sent, consumer := c.sendAll(c.producer(), 20), c.simple()
	collect(consumer, 20)
	<-ask("reset", "earliest")
	checkEachOnce(ids(collect(consumer, 20)), sent)
	return ""
}

func resetTimestamp(c *clients) string {
	producer := c.producer()
	c.sendAll(producer, 10)
	between := time.Now().Truncate(time.Second).Add(time.Second)
	time.Sleep(time.Until(between))
	after, consumer := c.sendAll(producer, 10), c.simple()
	collect(consumer, 20)
	<-ask("reset", between.UTC().Format(time.RFC3339))
	again := collect(consumer, 10)
	again = append(again, viewsOf(receiveDuring(consumer, time.Second))...)
	checkEachOnce(ids(again), after)
	return ""
}

func resetLatest(c *clients) string {
	producer := c.producer()
	c.sendAll(producer, 10)
	consumer := c.simple()
	acknowledgeOne(consumer, receiveOne(consumer, invisibleDuration))
	<-ask("reset", "latest")
	must(send(producer, c.message("next")))
	came := collect(consumer, 1)
	checkBodies(append(came, viewsOf(receiveDuring(consumer, time.Second))...), "next")
	return ""
}
