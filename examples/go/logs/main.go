// The broker filters by tag and by SQL: consumers get the lines that they want, and no others.
//
//	go run ./logs [host:port]
//
// Sender and receivers stand in one file here; in real life each is a program of its own.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const (
	topic    = "logs"
	patience = 15 * time.Second
	quiet    = 3 * time.Second
)

var filters = map[string]*rmq.FilterExpression{
	"alerts": rmq.NewFilterExpression("error || fatal"),
	"slow-requests": rmq.NewFilterExpressionWithType(
		"service = 'checkout' AND duration_ms > 500", rmq.SQL92),
}

var lines = []struct {
	level, service string
	durationMs     int
	text           string
}{
	{"info", "checkout", 12, "cart opened"},
	{"error", "checkout", 40, "card refused"},
	{"info", "checkout", 900, "card accepted"},
	{"fatal", "search", 5, "index is gone"},
	{"info", "search", 800, "index is back"},
	{"error", "checkout", 700, "bank does not answer"},
}

type heard struct{ group, text string }

var expected = []heard{
	{"alerts", "card refused"},
	{"alerts", "index is gone"},
	{"alerts", "bank does not answer"},
	{"slow-requests", "card accepted"},
	{"slow-requests", "bank does not answer"},
}

func config(group string) *rmq.Config {
	endpoint := cmp.Or(os.Getenv("PINNACE_ENDPOINT"), "127.0.0.1:8081")
	if len(os.Args) > 1 {
		endpoint = os.Args[1]
	}
	return &rmq.Config{
		Endpoint:      endpoint,
		ConsumerGroup: group,
		// The client insists on credentials; empty ones will do where the broker asks for none.
		Credentials: &credentials.SessionCredentials{},
	}
}

func startListener(group string, filter *rmq.FilterExpression, all chan<- heard) (rmq.PushConsumer, error) {
	consumer, err := rmq.NewPushConsumer(config(group),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: filter}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{
			Consume: func(message *rmq.MessageView) rmq.ConsumerResult {
				all <- heard{group, string(message.GetBody())}
				return rmq.SUCCESS
			},
		}))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

func startProducer() (rmq.Producer, error) {
	// A producer that names no topic never finishes its start.
	producer, err := rmq.NewProducer(config(""), rmq.WithTopics(topic))
	if err != nil {
		return nil, err
	}
	return producer, producer.Start()
}

func send(producer rmq.Producer) error {
	for _, line := range lines {
		message := &rmq.Message{Topic: topic, Body: []byte(line.text)}
		message.SetTag(line.level)
		// Properties are text; SQL compares them as numbers where the other side is a number.
		message.AddProperty("service", line.service)
		message.AddProperty("duration_ms", strconv.Itoa(line.durationMs))
		if _, err := producer.Send(context.Background(), message); err != nil {
			return fmt.Errorf("a line was not sent: %w", err)
		}
	}
	fmt.Printf("Sent %d lines.\n", len(lines))
	return nil
}

// collect checks off what comes, and goes on for a moment to see whether anything else does.
func collect(all <-chan heard) error {
	wanted, missing := map[heard]bool{}, map[heard]bool{}
	for _, one := range expected {
		wanted[one], missing[one] = true, true
	}
	for {
		wait := patience
		if len(missing) == 0 {
			wait = quiet
		}
		select {
		case one := <-all:
			fmt.Printf("%s: %s.\n", one.group, one.text)
			if !wanted[one] {
				return fmt.Errorf("%s got a line that its filter does not name", one.group)
			}
			delete(missing, one)
		case <-time.After(wait):
			if len(missing) > 0 {
				return fmt.Errorf("these lines did not come: %v", missing)
			}
			return nil
		}
	}
}

func run() error {
	var stopped sync.WaitGroup
	defer stopped.Wait()
	all := make(chan heard, 100)
	for group, filter := range filters {
		consumer, err := startListener(group, filter, all)
		if err != nil {
			return fmt.Errorf("%s did not start: %w", group, err)
		}
		// Each waits for the end of the receive that is under way, up to 20 s; so all at once.
		defer stopped.Go(func() { consumer.GracefulStop() })
	}
	producer, err := startProducer()
	if err != nil {
		return fmt.Errorf("the producer did not start: %w", err)
	}
	defer producer.GracefulStop()
	if err := send(producer); err != nil {
		return err
	}
	if err := collect(all); err != nil {
		return err
	}
	fmt.Println("Each group got the lines that its filter names, and no others.")
	return nil
}

func main() {
	log.SetFlags(0)
	rmq.EnableSsl = false // The client's default is TLS, which the broker speaks on the same port.
	if err := run(); err != nil {
		log.Fatalln(err)
	}
}
