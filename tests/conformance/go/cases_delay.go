// Cases of messages for later.

package main

import (
	"context"
	"fmt"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const late = time.Second

// dueIn is a time in whole milliseconds, as the broker keeps it.
func dueIn(duration time.Duration) time.Time {
	return time.UnixMilli(time.Now().Add(duration).UnixMilli())
}

func (c *clients) sendLater(producer rmq.Producer, body string, due time.Time) (*rmq.SendReceipt, error) {
	message := c.message(body)
	message.SetDelayTimestamp(due)
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return nil, err
	}
	return receipts[0], nil
}

// arrivalsUntil receives until count messages came, and acknowledges none.
func arrivalsUntil(consumer rmq.SimpleConsumer, count int) []arrival {
	arrivals := []arrival{}
	for len(arrivals) < count {
		for _, view := range receiveUntil(consumer, 1, collectInvisible, false) {
			arrivals = append(arrivals, arrival{view, time.Now()})
		}
	}
	return arrivals
}

func checkInTime(came arrival, due time.Time, atMost time.Duration) string {
	after := came.at.Sub(due)
	check(after >= 0 && after <= atMost, "%s came %v after its time", came.view.GetBody(), after)
	shown := came.view.GetDeliveryTimestamp()
	check(shown != nil && shown.Equal(due), "delivery timestamp %v instead of %v", shown, due)
	return fmt.Sprintf("%d ms after its time", after.Milliseconds())
}

func delay(c *clients) string {
	producer, consumer := c.producer(), c.simple()
	due := dueIn(3 * time.Second)
	must(c.sendLater(producer, "later", due))
	return checkInTime(arrivalsUntil(consumer, 1)[0], due, late)
}

func delayOrder(c *clients) string {
	producer, consumer := c.producer(), c.simple()
	due := map[string]time.Time{}
	for _, seconds := range []string{"6s", "4s", "2s"} {
		due[seconds] = dueIn(must(time.ParseDuration(seconds)))
		must(c.sendLater(producer, seconds, due[seconds]))
	}
	arrivals := arrivalsUntil(consumer, 3)
	checkBodies(viewsOf(arrivals), "2s", "4s", "6s")
	for _, one := range arrivals {
		checkInTime(one, due[string(one.view.GetBody())], late)
	}
	return ""
}

func delayPast(c *clients) string {
	producer, consumer := c.producer(), c.simple()
	must(c.sendLater(producer, "late", dueIn(-time.Minute)))
	sent := time.Now()
	came := arrivalsUntil(consumer, 1)[0]
	check(came.at.Sub(sent) <= time.Second, "came after %v", came.at.Sub(sent))
	return ""
}

func delayTooFar(c *clients) string {
	_, err := c.sendLater(c.producer(), "too far", dueIn(25*time.Hour))
	return expectRefusal(err, "ILLEGAL_DELIVERY_TIME", "40012")
}

func recall(c *clients) string {
	producer, consumer, due := c.producer(), c.simple(), dueIn(3*time.Second)
	receipt := must(c.sendLater(producer, "recalled", due))
	must(c.sendLater(producer, "neighbour", due))
	id := must(producer.Recall(context.Background(), c.given.topic, receipt.RecallHandle))
	check(id == receipt.MessageID, "message id %s was recalled", id)
	came := collect(consumer, 1)
	checkBodies(append(came, viewsOf(receiveDuring(consumer, 2*time.Second))...), "neighbour")
	return ""
}

func recallLate(c *clients) string {
	producer := c.producer()
	receipt := must(c.sendLater(producer, "delivered", dueIn(2*time.Second)))
	collect(c.simple(), 1)
	_, err := producer.Recall(context.Background(), c.given.topic, receipt.RecallHandle)
	return expectRefusal(err, "BAD_REQUEST", "40000", "MESSAGE_NOT_FOUND", "40401")
}

func delayRestart(c *clients) string {
	due := dueIn(10 * time.Second)
	must(c.sendLater(c.producer(), "pending", due))
	<-ask("restart", "")
	atMost := late + max(0, time.Since(due))
	consumer := c.simple()
	detail := checkInTime(arrivalsUntil(consumer, 1)[0], due, atMost)
	again := viewsOf(receiveDuring(consumer, time.Second))
	check(len(again) == 0, "%v came again", bodiesOf(again))
	return detail
}
