// A payment is announced if, and only if, it was made (transaction messages).
//
//	go run ./payments [host:port]
//
// Sender and receiver stand in one file here; in a shop they are two programs.
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
	topic = "payments"
	group = "ledger"
	// The broker asks about a payment some 6 s after it was sent without a decision.
	patience = 20 * time.Second
	quiet    = 3 * time.Second
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

// till knows which cards were charged; a real shop keeps this in its database.
type till struct {
	producer rmq.Producer
	charged  sync.Map // payment -> bool
}

func startTill() (*till, error) {
	t := &till{}
	// A producer that names no topic never finishes its start.
	producer, err := rmq.NewProducer(config(), rmq.WithTopics(topic),
		rmq.WithTransactionChecker(&rmq.TransactionChecker{Check: t.check}))
	if err != nil {
		return nil, err
	}
	t.producer = producer
	return t, producer.Start()
}

// check is what the broker asks about a payment that was neither committed nor rolled back.
func (t *till) check(message *rmq.MessageView) rmq.TransactionResolution {
	payment := message.GetKeys()[0]
	charged, known := t.charged.Load(payment)
	fmt.Printf("Till: the broker asks about %s; charged: %v.\n", payment, charged)
	switch {
	case !known:
		return rmq.UNKNOWN // Still at it, ask again.
	case charged.(bool):
		return rmq.COMMIT
	default:
		return rmq.ROLLBACK
	}
}

// begin sends the half message, which nobody sees yet.
func (t *till) begin(payment, amount string) (rmq.Transaction, error) {
	message := &rmq.Message{Topic: topic, Body: []byte(amount)}
	message.SetKeys(payment)
	transaction := t.producer.BeginTransaction()
	_, err := t.producer.SendWithTransaction(context.Background(), message, transaction)
	return transaction, err
}

// pay does it in the order that counts: half message, work, decision.
func (t *till) pay(good, refused, forgotten string) error {
	transaction, err := t.begin(good, "20 EUR")
	if err != nil {
		return err
	}
	t.charged.Store(good, true)
	if err := transaction.Commit(); err != nil {
		return err
	}
	fmt.Printf("Till: %s was charged and committed.\n", good)

	transaction, err = t.begin(refused, "5000 EUR")
	if err != nil {
		return err
	}
	t.charged.Store(refused, false)
	if err := transaction.RollBack(); err != nil {
		return err
	}
	fmt.Printf("Till: %s was refused by the bank and rolled back.\n", refused)

	_, err = t.begin(forgotten, "7 EUR")
	if err != nil {
		return err
	}
	t.charged.Store(forgotten, true)
	fmt.Printf("Till: %s was charged, and then we forgot to commit it.\n", forgotten)
	return nil
}

type booking struct{ payment, amount string }

func startLedger(booked chan<- booking) (rmq.PushConsumer, error) {
	consumer, err := rmq.NewPushConsumer(config(),
		rmq.WithPushSubscriptionExpressions(map[string]*rmq.FilterExpression{topic: rmq.SUB_ALL}),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{
			Consume: func(message *rmq.MessageView) rmq.ConsumerResult {
				booked <- booking{message.GetKeys()[0], string(message.GetBody())}
				return rmq.SUCCESS
			},
		}))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

// bookings is what came until the wanted ones are there and nothing more comes.
func bookings(booked <-chan booking, wanted ...string) map[string]bool {
	came := map[string]bool{}
	for {
		wait := quiet
		for _, payment := range wanted {
			if !came[payment] {
				wait = patience
			}
		}
		select {
		case one := <-booked:
			fmt.Printf("Ledger: booked %s of %s.\n", one.payment, one.amount)
			came[one.payment] = true
		case <-time.After(wait):
			return came
		}
	}
}

func run() error {
	booked := make(chan booking, 100)
	consumer, err := startLedger(booked)
	if err != nil {
		return fmt.Errorf("the ledger did not start: %w", err)
	}
	// This waits for the end of the receive that is under way: up to 20 s.
	defer consumer.GracefulStop()
	till, err := startTill()
	if err != nil {
		return fmt.Errorf("the till did not start: %w", err)
	}
	defer till.producer.GracefulStop()

	day := time.Now().Unix()
	good := fmt.Sprintf("payment-%d-1", day)
	refused := fmt.Sprintf("payment-%d-2", day)
	forgotten := fmt.Sprintf("payment-%d-3", day)
	if err := till.pay(good, refused, forgotten); err != nil {
		return fmt.Errorf("a payment was not announced: %w", err)
	}
	came := bookings(booked, good, forgotten)
	if came[refused] {
		return fmt.Errorf("%s was rolled back and still reached the ledger", refused)
	}
	if !came[good] || !came[forgotten] {
		return fmt.Errorf("not every payment reached the ledger, only these: %v", came)
	}
	fmt.Println("The ledger has the two payments that were made, and not the one that was refused.")
	return nil
}

func main() {
	log.SetFlags(0)
	rmq.EnableSsl = false // The client's default is TLS, which the broker speaks on the same port.
	if err := run(); err != nil {
		log.Fatalln(err)
	}
}
