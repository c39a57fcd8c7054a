// Every group gets every event; in a broadcasting group, every consumer does (publish-subscribe).
//
//	go run ./notifications [host:port]
//
// Sender and receivers stand in one file here; in a shop each is a program of its own.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const (
	topic    = "notifications"
	patience = 15 * time.Second
)

// Who listens, and for which group. The two web servers are consumers of the same group: it is
// its manifest that makes it a broadcasting group, nothing in the program says so.
var listeners = []struct{ name, group string }{
	{"email", "email"},
	{"sms", "sms"},
	{"audit", "audit"},
	{"web server 1", "web-cache"},
	{"web server 2", "web-cache"},
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

type heard struct{ name, event string }

func startListener(name, group string, all chan<- heard) (rmq.PushConsumer, error) {
	consumer, err := rmq.NewPushConsumer(config(group),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{
			Consume: func(message *rmq.MessageView) rmq.ConsumerResult {
				all <- heard{name, string(message.GetBody())}
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

func run() error {
	var stopped sync.WaitGroup
	defer stopped.Wait()
	all := make(chan heard, 100)
	for _, listener := range listeners {
		consumer, err := startListener(listener.name, listener.group, all)
		if err != nil {
			return fmt.Errorf("%s did not start: %w", listener.name, err)
		}
		// Each waits for the end of the receive that is under way, up to 20 s; so all at once.
		defer stopped.Go(func() { consumer.GracefulStop() })
	}
	producer, err := startProducer()
	if err != nil {
		return fmt.Errorf("the shop did not start: %w", err)
	}
	defer producer.GracefulStop()

	missing := map[heard]bool{}
	for _, step := range []string{"placed", "paid", "shipped"} {
		event := fmt.Sprintf("order %d was %s", time.Now().Unix(), step)
		for _, listener := range listeners {
			missing[heard{listener.name, event}] = true
		}
		message := &rmq.Message{Topic: topic, Body: []byte(event)}
		if _, err := producer.Send(context.Background(), message); err != nil {
			return fmt.Errorf("an event was not sent: %w", err)
		}
		fmt.Printf("Shop: %s.\n", event)
	}

	for len(missing) > 0 {
		select {
		case one := <-all:
			fmt.Printf("%s: heard that %s.\n", one.name, one.event)
			delete(missing, one)
		case <-time.After(patience):
			return fmt.Errorf("these did not hear of everything: %v", missing)
		}
	}
	fmt.Println("Each of the three groups and both web servers heard of every event.")
	return nil
}

func main() {
	log.SetFlags(0)
	rmq.EnableSsl = false // The client's default is TLS, which the broker speaks on the same port.
	if err := run(); err != nil {
		log.Fatalln(err)
	}
}
