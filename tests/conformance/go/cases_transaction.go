// Cases of messages that become visible with a transaction.

package main

import (
	"context"
	"fmt"
	"reflect"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	checkAfterLeast = 5500 * time.Millisecond
	checkAfterMost  = 12 * time.Second
)

// checker answers the broker's questions about transactions, and remembers them.
type checker struct {
	listener
	resolution rmq.TransactionResolution
}

func (k *checker) check(view *rmq.MessageView) rmq.TransactionResolution {
	k.add(view)
	return k.resolution
}

func (c *clients) transactionProducer(asked *checker) rmq.Producer {
	return must(c.startProducer(c.given.topic,
		rmq.WithTransactionChecker(&rmq.TransactionChecker{Check: asked.check})))
}

type half struct {
	transaction rmq.Transaction
	id          string
	at          time.Time
}

// begin sends a half message with a new producer.
func (c *clients) begin(asked *checker) half {
	producer := c.transactionProducer(asked)
	transaction := producer.BeginTransaction()
	message := c.message("half")
	message.SetTag("tag-a")
	message.AddProperty("colour", "blue")
	receipts := must(producer.SendWithTransaction(context.Background(), message, transaction))
	return half{transaction, receipts[0].MessageID, time.Now()}
}

func (h half) checkWhole(view *rmq.MessageView) {
	check(view.GetMessageId() == h.id, "message id %s", view.GetMessageId())
	check(string(view.GetBody()) == "half", "body %q", view.GetBody())
	check(text(view.GetTag()) == "tag-a", "tag %s", text(view.GetTag()))
	wanted := map[string]string{"colour": "blue"}
	check(reflect.DeepEqual(view.GetProperties(), wanted), "properties %v", view.GetProperties())
}

// checkAsked says when the producer was asked about its message.
func (h half) checkAsked(asked *checker) time.Time {
	check(asked.waitForCount(collectLimit, 1), "nobody was asked for %v", collectLimit)
	question := asked.arrivals()[0]
	h.checkWhole(question.view)
	return question.at
}

func (h half) checkAskedInTime(asked *checker) string {
	waited := h.checkAsked(asked).Sub(h.at)
	check(waited >= checkAfterLeast && waited <= checkAfterMost, "asked after %.1f s", waited.Seconds())
	return fmt.Sprintf("asked after %.1f s", waited.Seconds())
}

func (h half) commit() {
	err := h.transaction.Commit()
	check(err == nil, "commit: %v", err)
}

func transactionCommit(c *clients) string {
	half, consumer := c.begin(&checker{resolution: rmq.COMMIT}), c.simple()
	half.commit()
	committed := time.Now()
	view := collect(consumer, 1)[0]
	waited := time.Since(committed)
	half.checkWhole(view)
	check(waited <= 2*time.Second, "came after %.1f s", waited.Seconds())
	return ""
}

func transactionInvisible(c *clients) string {
	half, consumer := c.begin(&checker{resolution: rmq.UNKNOWN}), c.simple()
	check(len(receiveDuring(consumer, 4*time.Second)) == 0, "came before the commit")
	half.commit()
	half.checkWhole(collect(consumer, 1)[0])
	return ""
}

func transactionRollback(c *clients) string {
	asked := &checker{resolution: rmq.COMMIT}
	err := c.begin(asked).transaction.RollBack()
	check(err == nil, "rollback: %v", err)
	check(len(receiveDuring(c.simple(), 9*time.Second)) == 0, "came in spite of the rollback")
	check(len(asked.got()) == 0, "asked about a finished transaction")
	return ""
}

func transactionCheck(c *clients) string {
	asked := &checker{resolution: rmq.COMMIT}
	half := c.begin(asked)
	half.checkWhole(collect(c.simple(), 1)[0])
	return half.checkAskedInTime(asked)
}

func transactionCheckRollback(c *clients) string {
	asked := &checker{resolution: rmq.ROLLBACK}
	detail := c.begin(asked).checkAskedInTime(asked)
	check(len(receiveDuring(c.simple(), 3*time.Second)) == 0, "came in spite of the rollback")
	return detail
}

func transactionRestart(c *clients) string {
	asked := &checker{resolution: rmq.COMMIT}
	half := c.begin(asked)
	<-ask("restart", "")
	c.transactionProducer(asked)
	consumer := c.simple()
	half.checkAsked(asked)
	came := collect(consumer, 1)
	came = append(came, viewsOf(receiveDuring(consumer, time.Second))...)
	checkBodies(came, "half")
	half.checkWhole(came[0])
	return ""
}
