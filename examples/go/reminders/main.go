// Messages for later, and one of them taken back before its time (delay and recall).
//
//	go run ./reminders [host:port]
//
// Sender and receiver stand in one file here; in real life they are two programs.
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
	topic    = "reminders"
	group    = "calendar"
	patience = 20 * time.Second
)

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

type ring struct {
	id, text string
	late     time.Duration
}

func startCalendar(rings chan<- ring) (rmq.PushConsumer, error) {
	consumer, err := rmq.NewPushConsumer(config(),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{
			Consume: func(message *rmq.MessageView) rmq.ConsumerResult {
				late := time.Since(*message.GetDeliveryTimestamp())
				rings <- ring{message.GetMessageId(), string(message.GetBody()), late}
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

func sendLater(producer rmq.Producer, text string, delay time.Duration) (*rmq.SendReceipt, error) {
	message := &rmq.Message{Topic: topic, Body: []byte(text)}
	// When to deliver it: a moment, not a delay. The broker keeps whole milliseconds.
	message.SetDelayTimestamp(time.Now().Add(delay))
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return nil, fmt.Errorf("the reminder %q was not sent: %w", text, err)
	}
	fmt.Printf("Sent the reminder %q for %v from now.\n", text, delay)
	return receipts[0], nil
}

// remind sends three reminders, takes one back, and says how the messages of all are called.
func remind(producer rmq.Producer) (ids []string, err error) {
	dentist, err := sendLater(producer, "dentist", 8*time.Second)
	if err != nil {
		return nil, err
	}
	train, err := sendLater(producer, "train", 6*time.Second)
	if err != nil {
		return nil, err
	}
	tea, err := sendLater(producer, "tea", 4*time.Second)
	if err != nil {
		return nil, err
	}
	if _, err := producer.Recall(context.Background(), topic, train.RecallHandle); err != nil {
		return nil, fmt.Errorf("the reminder \"train\" was not taken back: %w", err)
	}
	fmt.Println("Took the reminder \"train\" back: we go by car.")
	return []string{dentist.MessageID, train.MessageID, tea.MessageID}, nil
}

func run() error {
	rings := make(chan ring, 100)
	consumer, err := startCalendar(rings)
	if err != nil {
		return fmt.Errorf("the calendar did not start: %w", err)
	}
	// This waits for the end of the receive that is under way: up to 20 s.
	defer consumer.GracefulStop()
	producer, err := startProducer()
	if err != nil {
		return fmt.Errorf("the producer did not start: %w", err)
	}
	defer producer.GracefulStop()
	ids, err := remind(producer)
	if err != nil {
		return err
	}

	came := []string{}
	for !slices.Contains(came, "dentist") { // The last one; "train" would come before it.
		select {
		case one := <-rings:
			if !slices.Contains(ids, one.id) {
				continue // Left from an earlier day.
			}
			fmt.Printf("Calendar: %q, %d ms after its time.\n", one.text, one.late.Milliseconds())
			if one.late.Milliseconds() < 0 {
				return fmt.Errorf("the reminder %q came before its time", one.text)
			}
			came = append(came, one.text)
		case <-time.After(patience):
			return fmt.Errorf("not every reminder came, only these: %v", came)
		}
	}
	if !slices.Equal(came, []string{"tea", "dentist"}) {
		return fmt.Errorf("expected \"tea\" and \"dentist\", but these came: %v", came)
	}
	fmt.Println("The two reminders came at their time, and the one that was taken back did not.")
	return nil
}

func main() {
	log.SetFlags(0)
	rmq.EnableSsl = false // The client's default is TLS, which the broker speaks on the same port.
	if err := run(); err != nil {
		log.Fatalln(err)
	}
}
