// The events of every order are handled in the order in which they happened (FIFO).
//
//	go run ./orders [host:port]
//
// Sender and receiver stand in one file here; in a shop they are two programs.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const (
	topic    = "order-events"
	group    = "shipping"
	patience = 15 * time.Second
)

var steps = []string{"placed", "paid", "packed", "shipped"}

type handled struct{ order, step string }

func config() *rmq.Config {
	endpoint := cmp.Or(os.Getenv("PINNACE_ENDPOINT"), "127.0.0.1:8081")
	if len(os.Args) > 1 {
		endpoint = os.Args[1]
	}
	return &rmq.Config{
		Endpoint:      endpoint,
		ConsumerGroup: group, // Producers ignore it.
		// The client insists on credentials; empty ones will do where the broker asks for none.
		Credentials: &credentials.SessionCredentials{},
	}
}

// startShipping tells the channel of every event. The client calls the listener from several
// goroutines, but never for two events of one order at the same time.
func startShipping(done chan<- handled) (rmq.PushConsumer, error) {
	consumer, err := rmq.NewPushConsumer(config(),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{
			Consume: func(message *rmq.MessageView) rmq.ConsumerResult {
				done <- handled{*message.GetMessageGroup(), string(message.GetBody())}
				// After FAILURE the client calls again with this event before it goes on with the order.
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
	producer, err := rmq.NewProducer(config(), rmq.WithTopics(topic))
	if err != nil {
		return nil, err
	}
	return producer, producer.Start()
}

func run() error {
	done := make(chan handled, 100)
	consumer, err := startShipping(done)
	if err != nil {
		return fmt.Errorf("shipping did not start: %w", err)
	}
	// This waits for the end of the receive that is under way: up to 20 s.
	defer consumer.GracefulStop()
	producer, err := startProducer()
	if err != nil {
		return fmt.Errorf("the shop did not start: %w", err)
	}
	defer producer.GracefulStop()

	day := time.Now().Unix()
	orders := []string{fmt.Sprintf("%d-1", day), fmt.Sprintf("%d-2", day), fmt.Sprintf("%d-3", day)}
	for _, step := range steps {
		for _, order := range orders {
			message := &rmq.Message{Topic: topic, Body: []byte(step)}
			message.SetMessageGroup(order) // Order is kept within a message group, and only there.
			message.SetKeys(order)
			if _, err := producer.Send(context.Background(), message); err != nil {
				return fmt.Errorf("order %s was not sent: %w", order, err)
			}
		}
	}
	fmt.Printf("Shop: sent %d events of each of %d orders, in turn.\n", len(steps), len(orders))

	came := map[string][]string{}
	for missing := len(orders) * len(steps); missing > 0; {
		select {
		case event := <-done:
			fmt.Printf("Shipping: order %s was %s.\n", event.order, event.step)
			if slices.Contains(orders, event.order) { // Others are left from an earlier day.
				came[event.order] = append(came[event.order], event.step)
				missing--
			}
		case <-time.After(patience):
			return fmt.Errorf("not every event came, only these: %v", came)
		}
	}
	for _, order := range orders {
		if !slices.Equal(came[order], steps) {
			return fmt.Errorf("the events of order %s came out of order: %v", order, came[order])
		}
	}
	fmt.Println("The events of every order were handled in the order in which they were sent.")
	return nil
}

func main() {
	log.SetFlags(0)
	rmq.EnableSsl = false // The client's default is TLS, which the broker speaks on the same port.
	if err := run(); err != nil {
		log.Fatalln(err)
	}
}
