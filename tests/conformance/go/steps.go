// Steps that several cases take.

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// early is how much before its duration a lease may end: clocks and rounding of two processes.
const early = 500 * time.Millisecond

func ids(views []*rmq.MessageView) []string {
	all := []string{}
	for _, view := range views {
		all = append(all, view.GetMessageId())
	}
	return all
}

func bodiesOf(views []*rmq.MessageView) []string {
	all := []string{}
	for _, view := range views {
		all = append(all, string(view.GetBody()))
	}
	return all
}

func viewsOf(arrivals []arrival) []*rmq.MessageView {
	all := []*rmq.MessageView{}
	for _, one := range arrivals {
		all = append(all, one.view)
	}
	return all
}

func sorted(all []string) []string {
	return slices.Sorted(slices.Values(all))
}

func text(value *string) string {
	if value == nil {
		return ""
	}
	return *value
}

func checkEachOnce(got, sent []string) {
	check(slices.Equal(sorted(got), sorted(sent)), "%d deliveries for %d messages", len(got), len(sent))
}

func checkBodies(views []*rmq.MessageView, expected ...string) {
	check(slices.Equal(bodiesOf(views), expected), "came as %v", bodiesOf(views))
}

func (c *clients) inGroup(group, body string) *rmq.Message {
	message := c.message(body)
	message.SetMessageGroup(group)
	return message
}

// sendInGroups sends to every message group in turn; a body is its place in the group.
func (c *clients) sendInGroups(groups, each int) {
	producer := c.producer()
	for n := range each {
		for group := range groups {
			must(send(producer, c.inGroup(fmt.Sprintf("group-%d", group), strconv.Itoa(n))))
		}
	}
}

func messageGroup(view *rmq.MessageView) string { return text(view.GetMessageGroup()) }

// checkInOrder wants each group from first to last, nothing twice.
func checkInOrder(views []*rmq.MessageView, groups, each int, name func(*rmq.MessageView) string) {
	got := map[string][]string{}
	for _, view := range views {
		got[name(view)] = append(got[name(view)], string(view.GetBody()))
	}
	check(len(got) == groups, "%d groups of %d", len(got), groups)
	expected := []string{}
	for n := range each {
		expected = append(expected, strconv.Itoa(n))
	}
	for group, places := range got {
		check(slices.Equal(places, expected), "%s came as %v", group, places)
	}
}

// receiveOne takes a single message and does not acknowledge it.
func receiveOne(consumer rmq.SimpleConsumer, invisible time.Duration) *rmq.MessageView {
	var views []*rmq.MessageView
	waitFor(collectLimit, func() bool {
		views = must(receiveUpTo(consumer, 1, invisible))
		return len(views) > 0
	})
	check(len(views) == 1, "%d messages came within %v", len(views), collectLimit)
	return views[0]
}

// openDeadLetters waits for the topic, which may appear with the first dead letter.
func openDeadLetters(c *clients) rmq.SimpleConsumer {
	var consumer rmq.SimpleConsumer
	var err error
	waitFor(collectLimit, func() bool {
		consumer, err = c.startSimple(c.given.secondGroup, "%DLQ%"+c.given.group, rmq.SUB_ALL, awaitDuration)
		return err == nil
	})
	return must(consumer, err)
}

func checkDeadLetter(c *clients, sent string) string {
	got := collect(openDeadLetters(c), 1)[0]
	check(string(got.GetBody()) == "poison", "another message is in the dead letters")
	check(text(got.GetTag()) == "tag-a", "tag %s", text(got.GetTag()))
	check(got.GetProperties()["colour"] == "blue", "properties %v", got.GetProperties())
	return idKept(got, sent)
}

func idKept(got *rmq.MessageView, sent string) string {
	if got.GetMessageId() == sent {
		return "message id kept"
	}
	return "new message id"
}

func (c *clients) poison() *rmq.Message {
	message := c.message("poison")
	message.SetTag("tag-a")
	message.SetKeys("key-1")
	message.AddProperty("colour", "blue")
	return message
}

func sendPoison(c *clients) string {
	return must(send(c.producer(), c.poison()))
}

func expectRefusal(err error, words ...string) string {
	check(err != nil, "nothing was refused")
	said := strings.Join(strings.Fields(err.Error()), " ")
	clear := slices.ContainsFunc(words, func(word string) bool { return strings.Contains(said, word) })
	check(clear, "unclear error: %s", said)
	return said
}

// ask has the driver do something to the broker and closes the channel when that is done:
// "restart" kills it and starts it again, "reset" (to some place) and "redrive" are its commands.
func ask(event, to string) <-chan struct{} {
	line, _ := json.Marshal(map[string]string{"event": event, "to": to})
	fmt.Println(string(line))
	done := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(done)
	}()
	return done
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
