// Cases of push consumers, and those in which the broker is killed and started again.

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const pushMessages = 200

func push(c *clients) string {
	heard := c.push(c.given.group, always)
	sent := c.sendAll(c.producer(), pushMessages)
	heard.waitForCount(collectLimit, pushMessages)
	check(!heard.waitForCount(3*time.Second, pushMessages+1), "a message came twice")
	checkEachOnce(ids(heard.got()), sent)
	return ""
}

func pushRetry(c *clients) string {
	heard := c.push(c.given.group, func(view *rmq.MessageView) bool { return view.GetDeliveryAttempt() > 1 })
	sent := c.sendAll(c.producer(), 1)
	heard.waitForCount(40*time.Second, 2)
	check(!heard.waitForCount(2*time.Second, 3), "came a third time")
	checkTwoAttempts(heard, sent[0])
	return ""
}

func checkTwoAttempts(heard *listener, sent string) {
	got := heard.got()
	check(len(got) == 2, "%d deliveries", len(got))
	for n, view := range got {
		check(view.GetMessageId() == sent, "another message came")
		check(int(view.GetDeliveryAttempt()) == n+1, "delivery attempt %d", view.GetDeliveryAttempt())
	}
}

func pointToPoint(c *clients) string {
	first, second := c.push(c.given.group, always), c.push(c.given.group, always)
	handled := func() []string { return append(ids(first.got()), ids(second.got())...) }
	sent := c.sendAll(c.producer(), pushMessages)
	waitFor(collectLimit, func() bool { return len(handled()) >= pushMessages })
	waitFor(3*time.Second, func() bool { return len(handled()) > pushMessages })
	checkEachOnce(handled(), sent)
	check(len(first.got()) > 0 && len(second.got()) > 0, "one consumer got everything")
	return fmt.Sprintf("%d and %d", len(first.got()), len(second.got()))
}

func publishSubscribe(c *clients) string {
	first, second := c.push(c.given.group, always), c.push(c.given.secondGroup, always)
	sent := c.sendAll(c.producer(), pushMessages)
	for _, heard := range []*listener{first, second} {
		heard.waitForCount(collectLimit, pushMessages)
		checkEachOnce(ids(heard.got()), sent)
	}
	return ""
}

func pushDeadLetter(c *clients) string {
	heard := c.push(c.given.group, func(*rmq.MessageView) bool { return false })
	sent := sendPoison(c)
	heard.waitForCount(40*time.Second, 2)
	detail := checkDeadLetter(c, sent)
	checkTwoAttempts(heard, sent)
	return detail
}

// sendThroughRestart sends all the time while the broker goes and comes.
func sendThroughRestart(c *clients, producer rmq.Producer) (sent []string, failures int) {
	restarted := ask("restart", "")
	ends := time.Now().Add(45 * time.Second)
	for after := 0; after < 20; time.Sleep(50 * time.Millisecond) {
		check(time.Now().Before(ends), "the producer did not recover (%d errors)", failures)
		isBack := isDone(restarted)
		id, err := send(producer, c.message("through the restart"))
		if err != nil {
			failures++
			continue
		}
		sent = append(sent, id)
		if isBack {
			after++
		}
	}
	return sent, failures
}

func restart(c *clients) string {
	producer, consumer := c.producer(), c.simple()
	expected := map[string]bool{}
	for _, id := range c.sendAll(producer, 20) {
		expected[id] = true
	}
	done := map[string]bool{}
	for _, view := range receiveUntil(consumer, 10, invisibleDuration, true) {
		done[view.GetMessageId()] = true
		delete(expected, view.GetMessageId())
	}
	sent, failures := sendThroughRestart(c, producer)
	for _, id := range sent {
		expected[id] = true
	}
	for ends := time.Now().Add(collectLimit); len(expected) > 0 && time.Now().Before(ends); {
		views, err := receive(consumer, invisibleDuration)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
		}
		for _, view := range views {
			check(!done[view.GetMessageId()], "an acknowledged message came again")
			delete(expected, view.GetMessageId())
			_ = consumer.Ack(context.Background(), view)
		}
	}
	check(len(expected) == 0, "%d of %d messages lost", len(expected), 20+len(sent))
	return fmt.Sprintf("%d sent, %d sends failed meanwhile", 20+len(sent), failures)
}

func restartPush(c *clients) string {
	producer, heard := c.producer(), c.push(c.given.group, always)
	sent := c.sendAll(producer, 20)
	check(heard.waitForCount(collectLimit, 20), "no delivery before the restart")
	more, failures := sendThroughRestart(c, producer)
	sent = append(sent, more...)
	missing := func() int {
		got, count := ids(heard.got()), 0
		for _, id := range sent {
			if !slices.Contains(got, id) {
				count++
			}
		}
		return count
	}
	waitFor(collectLimit, func() bool { return missing() == 0 })
	check(missing() == 0, "%d of %d messages did not come", missing(), len(sent))
	return fmt.Sprintf("%d sent, %d sends failed meanwhile", len(sent), failures)
}

func consumerLeaves(c *clients) string {
	leaving, first := c.startPush(c.given.group, rmq.SUB_ALL, always)
	_, second := c.startPush(c.given.group, rmq.SUB_ALL, always)
	producer := c.producer()
	missing := func(sent []string) int {
		handled := map[string]bool{}
		for _, id := range append(ids(first.got()), ids(second.got())...) {
			handled[id] = true
		}
		return len(slices.DeleteFunc(slices.Clone(sent), func(id string) bool { return handled[id] }))
	}
	sent := c.sendAll(producer, 20)
	waitFor(collectLimit, func() bool { return missing(sent) == 0 })
	closed := make(chan struct{})
	go func() {
		_ = leaving.GracefulStop()
		close(closed)
	}()
	for ; !isDone(closed); time.Sleep(50 * time.Millisecond) {
		sent = append(sent, c.sendAll(producer, 1)...)
	}
	sent = append(sent, c.sendAll(producer, 20)...)
	waitFor(5*time.Second, func() bool { return missing(sent) == 0 })
	check(missing(sent) == 0, "%d of %d messages not handled after 5 s", missing(sent), len(sent))
	return fmt.Sprintf("%d and %d", len(first.got()), len(second.got()))
}
