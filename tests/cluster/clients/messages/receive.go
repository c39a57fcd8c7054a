package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	// awaitDuration is how long a receive waits for a message at the broker.
	awaitDuration = 5 * time.Second
	receivePause  = time.Second
	checkPause    = 100 * time.Millisecond
)

// tally counts what this consumer handled and knows when it has enough.
type tally struct {
	mutex  sync.Mutex
	bodies map[string]int
	last   time.Time
	total  int
	settings
}

func newTally(s settings) *tally { return &tally{bodies: map[string]int{}, settings: s} }

func (t *tally) handled(m *rocketmq.MessageView) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	body := string(m.GetBody())
	t.bodies[body]++
	t.total++
	t.last = time.Now()
	fmt.Printf("handled %s %s attempt %d\n", body, m.GetMessageId(), m.GetDeliveryAttempt())
}

// enough: as many different bodies as expected, and the line quiet for the
// idle time since the last message. Before the first message it is never enough.
func (t *tally) enough() bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.total > 0 && len(t.bodies) >= t.expect && time.Since(t.last) >= t.idle
}

func (t *tally) report() error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	fmt.Printf("done: %d handled, %d different\n", t.total, len(t.bodies))
	if t.total == 0 || len(t.bodies) < t.expect {
		return fmt.Errorf("%d different messages handled within %s, expected %d", len(t.bodies), t.timeout, max(t.expect, 1))
	}
	return nil
}

// receive is a simple consumer: asks, handles, acknowledges.
func receive(ctx context.Context, s settings) error {
	if s.expect == 0 && s.idle == 0 {
		return fmt.Errorf("--expect or --idle must say when it is done")
	}
	consumer, err := start(ctx, func() (rocketmq.SimpleConsumer, error) {
		return rocketmq.NewSimpleConsumer(s.config(),
			rocketmq.WithSimpleAwaitDuration(awaitDuration),
			rocketmq.WithSimpleSubscriptionExpressions(map[string]*rocketmq.FilterExpression{s.topic: rocketmq.SUB_ALL}))
	})
	if err != nil {
		return err
	}
	fmt.Println("receiving")
	t := newTally(s)
	for !t.enough() && ctx.Err() == nil {
		messages, err := consumer.Receive(ctx, int32(s.batch), s.invisible)
		if err != nil && !isEmpty(err) {
			fmt.Fprintf(os.Stderr, "receive: %v\n", err)
			pause(ctx, receivePause)
		}
		for _, m := range messages {
			handle(ctx, consumer, m, t)
		}
	}
	if err := consumer.GracefulStop(); err != nil {
		fmt.Fprintf(os.Stderr, "stop: %v\n", err)
	}
	return t.report()
}

// handle counts first and acknowledges then, as an application would: when the
// answer is lost the message may come again, or may not, but it was handled.
func handle(ctx context.Context, consumer rocketmq.SimpleConsumer, m *rocketmq.MessageView, t *tally) {
	t.handled(m)
	if err := consumer.Ack(ctx, m); err != nil {
		fmt.Fprintf(os.Stderr, "acknowledge %s: %v\n", m.GetBody(), err)
	}
}

// isEmpty: the client reports "nothing there" as an error with this code.
func isEmpty(err error) bool {
	const messageNotFound = 40401
	status, ok := rocketmq.AsErrRpcStatus(err)
	return ok && status.GetCode() == messageNotFound
}

// push is a push consumer: the client receives, hands over, and acknowledges.
func push(ctx context.Context, s settings) error {
	if s.expect == 0 && s.idle == 0 {
		return fmt.Errorf("--expect or --idle must say when it is done")
	}
	t := newTally(s)
	consumer, err := start(ctx, func() (rocketmq.PushConsumer, error) {
		return rocketmq.NewPushConsumer(s.config(),
			rocketmq.WithPushAwaitDuration(awaitDuration),
			rocketmq.WithPushSubscriptionExpressions(map[string]*rocketmq.FilterExpression{s.topic: rocketmq.SUB_ALL}),
			rocketmq.WithPushMessageListener(&rocketmq.FuncMessageListener{
				Consume: func(m *rocketmq.MessageView) rocketmq.ConsumerResult {
					t.handled(m)
					return rocketmq.SUCCESS
				},
			}))
	})
	if err != nil {
		return err
	}
	fmt.Println("receiving")
	for !t.enough() && pause(ctx, checkPause) {
	}
	if err := consumer.GracefulStop(); err != nil {
		fmt.Fprintf(os.Stderr, "stop: %v\n", err)
	}
	return t.report()
}
