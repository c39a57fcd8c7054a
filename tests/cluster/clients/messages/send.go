package main

import (
	"context"
	"fmt"
	"os"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
)

const sendPause = 200 * time.Millisecond

// send sends COUNT messages one after the other and repeats each until it is
// acknowledged. A repeated one may exist twice: its first answer may have been
// lost, not the message.
func send(ctx context.Context, s settings) error {
	producer, err := start(ctx, func() (rocketmq.Producer, error) {
		// Without its topics named here, a producer waits for ever in Start.
		return rocketmq.NewProducer(s.config(), rocketmq.WithTopics(s.topic))
	})
	if err != nil {
		return err
	}
	defer func() { _ = producer.GracefulStop() }()

	begin, repeated := time.Now(), 0
	for n := 1; n <= s.count; n++ {
		body := fmt.Sprintf("%s-%05d", s.prefix, n)
		id, repeats, err := sendUntilAcknowledged(ctx, producer, s, body)
		repeated += repeats
		if err != nil {
			return fmt.Errorf("%d of %d acknowledged, then %s was not: %w", n-1, s.count, body, err)
		}
		fmt.Printf("acknowledged %s %s\n", body, id)
		if s.rate > 0 {
			due := begin.Add(time.Duration(n) * time.Second / time.Duration(s.rate))
			pause(ctx, time.Until(due))
		}
	}
	fmt.Printf("done: %d acknowledged, %d repeated\n", s.count, repeated)
	return nil
}

func sendUntilAcknowledged(ctx context.Context, p rocketmq.Producer, s settings, body string) (string, int, error) {
	for repeats := 0; ; repeats++ {
		message := &rocketmq.Message{Topic: s.topic, Body: []byte(body)}
		message.SetKeys(body)
		if s.tag != "" {
			message.SetTag(s.tag)
		}
		receipts, err := p.Send(ctx, message)
		if err == nil && len(receipts) == 1 {
			return receipts[0].MessageID, repeats, nil
		}
		if err == nil {
			return "", repeats, fmt.Errorf("%d receipts for one message", len(receipts))
		}
		fmt.Fprintf(os.Stderr, "send %s: %v\n", body, err)
		if !pause(ctx, sendPause) {
			return "", repeats, err
		}
	}
}
