// The official Go client's producers and consumers for one case.

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	protocol "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

const (
	awaitDuration     = 5 * time.Second
	invisibleDuration = 10 * time.Second
	collectLimit      = 30 * time.Second
	// Longer than any case, so that nothing collected comes back by itself.
	collectInvisible = 120 * time.Second
)

func check(condition bool, format string, values ...any) {
	if !condition {
		panic(fmt.Sprintf(format, values...))
	}
}

func must[T any](value T, err error) T {
	check(err == nil, "%v", err)
	return value
}

type clients struct {
	given options
}

// config always has credentials: the client refuses to work without them, even empty.
func (c *clients) config(group string) *rmq.Config {
	return &rmq.Config{
		Endpoint:      c.given.endpoint,
		ConsumerGroup: group,
		Credentials:   &credentials.SessionCredentials{},
	}
}

// startProducer names the topic at the start: without one this client waits for ever.
func (c *clients) startProducer(topic string, more ...rmq.ProducerOption) (rmq.Producer, error) {
	producer, err := rmq.NewProducer(c.config(""), append(more, rmq.WithTopics(topic))...)
	if err != nil {
		return nil, err
	}
	return producer, producer.Start()
}

func (c *clients) producer() rmq.Producer {
	return must(c.startProducer(c.given.topic))
}

func (c *clients) startSimple(group, topic string, filter *rmq.FilterExpression, await time.Duration) (rmq.SimpleConsumer, error) {
	consumer, err := rmq.NewSimpleConsumer(c.config(group),
		rmq.WithSimpleAwaitDuration(await),
		rmq.WithSimpleSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: filter}))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

func (c *clients) simple() rmq.SimpleConsumer {
	return must(c.startSimple(c.given.group, c.given.topic, rmq.SUB_ALL, awaitDuration))
}

type arrival struct {
	view *rmq.MessageView
	at   time.Time
}

// listener records every delivery and answers what the case decides.
type listener struct {
	lock       sync.Mutex
	deliveries []arrival
}

func (l *listener) add(view *rmq.MessageView) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.deliveries = append(l.deliveries, arrival{view, time.Now()})
}

func (l *listener) arrivals() []arrival {
	l.lock.Lock()
	defer l.lock.Unlock()
	return slices.Clone(l.deliveries)
}

func (l *listener) got() []*rmq.MessageView {
	return viewsOf(l.arrivals())
}

// waitFor waits until the condition holds and says whether it did.
func waitFor(limit time.Duration, condition func() bool) bool {
	for ends := time.Now().Add(limit); time.Now().Before(ends); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

func (l *listener) waitForCount(limit time.Duration, count int) bool {
	return waitFor(limit, func() bool { return len(l.got()) >= count })
}

func (l *listener) calls(decide func(*rmq.MessageView) bool) rmq.PushConsumerOption {
	return rmq.WithPushMessageListener(&rmq.FuncMessageListener{
		Consume: func(view *rmq.MessageView) rmq.ConsumerResult {
			l.add(view)
			if decide(view) {
				return rmq.SUCCESS
			}
			return rmq.FAILURE
		},
	})
}

func (c *clients) startPush(group string, filter *rmq.FilterExpression, decide func(*rmq.MessageView) bool) (rmq.PushConsumer, *listener) {
	heard := &listener{}
	consumer := must(rmq.NewPushConsumer(c.config(group),
		rmq.WithPushAwaitDuration(awaitDuration),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{c.given.topic: filter}),
		heard.calls(decide)))
	err := consumer.Start()
	check(err == nil, "%v", err)
	return consumer, heard
}

func (c *clients) push(group string, decide func(*rmq.MessageView) bool) *listener {
	_, heard := c.startPush(group, rmq.SUB_ALL, decide)
	return heard
}

// litePush is a started push consumer of lite topics, of none yet.
func (c *clients) litePush() (rmq.LitePushConsumer, *listener) {
	heard := &listener{}
	consumer := must(rmq.NewLitePushConsumer(c.config(c.given.group),
		rmq.NewLitePushConsumerConfig(c.given.topic, collectInvisible),
		rmq.WithPushAwaitDuration(awaitDuration), heard.calls(always)))
	err := consumer.Start()
	check(err == nil, "%v", err)
	return consumer, heard
}

func always(*rmq.MessageView) bool { return true }

func (c *clients) message(body string) *rmq.Message {
	return &rmq.Message{Topic: c.given.topic, Body: []byte(body)}
}

func send(producer rmq.Producer, message *rmq.Message) (string, error) {
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return "", err
	}
	check(len(receipts) == 1, "%d receipts", len(receipts))
	return receipts[0].MessageID, nil
}

func (c *clients) sendAll(producer rmq.Producer, count int) []string {
	ids := []string{}
	for n := range count {
		ids = append(ids, must(send(producer, c.message(fmt.Sprintf("message-%d", n)))))
	}
	return ids
}

// receive turns this client's MESSAGE_NOT_FOUND error into an empty list, as its
// applications have to.
func receive(consumer rmq.SimpleConsumer, invisible time.Duration) ([]*rmq.MessageView, error) {
	return receiveUpTo(consumer, 16, invisible)
}

func receiveUpTo(consumer rmq.SimpleConsumer, count int32, invisible time.Duration) ([]*rmq.MessageView, error) {
	views, err := consumer.Receive(context.Background(), count, invisible)
	var status *rmq.ErrRpcStatus
	if errors.As(err, &status) && status.GetCode() == int32(protocol.Code_MESSAGE_NOT_FOUND) {
		return nil, nil
	}
	return views, err
}

// receiveUntil receives until count messages came, and acknowledges them when asked.
func receiveUntil(consumer rmq.SimpleConsumer, count int, invisible time.Duration, acknowledge bool) []*rmq.MessageView {
	views := []*rmq.MessageView{}
	for ends := time.Now().Add(collectLimit); len(views) < count && time.Now().Before(ends); {
		for _, view := range must(receive(consumer, invisible)) {
			views = append(views, view)
			if acknowledge {
				acknowledgeOne(consumer, view)
			}
		}
	}
	check(len(views) >= count, "%d of %d messages came within %v", len(views), count, collectLimit)
	return views
}

func collect(consumer rmq.SimpleConsumer, count int) []*rmq.MessageView {
	return receiveUntil(consumer, count, collectInvisible, true)
}

func acknowledgeOne(consumer rmq.SimpleConsumer, view *rmq.MessageView) {
	err := consumer.Ack(context.Background(), view)
	check(err == nil, "ack: %v", err)
}

// receiveDuring is everything that comes within the given time.
func receiveDuring(consumer rmq.SimpleConsumer, limit time.Duration) []arrival {
	arrivals := []arrival{}
	for ends := time.Now().Add(limit); time.Now().Before(ends); {
		for _, view := range must(receive(consumer, collectInvisible)) {
			arrivals = append(arrivals, arrival{view, time.Now()})
		}
	}
	return arrivals
}
