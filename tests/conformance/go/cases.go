// The cases by their names in the driver's table (../driver/cases.py).

package main

var cases = map[string]func(*clients) string{
	"send":              sendCase,
	"properties":        properties,
	"bodies":            bodies,
	"ack":               ack,
	"redelivery":        redelivery,
	"change-invisible":  changeInvisible,
	"push":              push,
	"push-retry":        pushRetry,
	"tag-filter":        tagFilter,
	"point-to-point":    pointToPoint,
	"publish-subscribe": publishSubscribe,
	"dead-letter":       deadLetter,
	"push-dead-letter":  pushDeadLetter,
	"unknown-topic":     unknownTopic,
	"wrong-type":        wrongType,
	"oversize":          oversize,
	"tls":               tls,
	"restart":           restart,
	"restart-push":      restartPush,
	"long-poll":         longPoll,
	"empty-receive":     emptyReceive,
	"shutdown":          shutdown,
	"ack-twice":         ackTwice,
	"consumer-leaves":   consumerLeaves,

	"fifo-order":            fifoOrder,
	"fifo-order-push":       fifoOrderPush,
	"fifo-one-in-flight":    fifoOneInFlight,
	"fifo-redelivery":       fifoRedelivery,
	"fifo-push-retry":       fifoPushRetry,
	"fifo-dead-letter":      fifoDeadLetter,
	"fifo-push-dead-letter": fifoPushDeadLetter,
	"fifo-two-producers":    fifoTwoProducers,
	"fifo-point-to-point":   fifoPointToPoint,
	"fifo-throughput":       fifoThroughput,
	"fifo-many-groups":      fifoManyGroups,

	"delay":         delay,
	"delay-order":   delayOrder,
	"delay-past":    delayPast,
	"delay-too-far": delayTooFar,
	"recall":        recall,
	"recall-late":   recallLate,
	"delay-restart": delayRestart,

	"transaction-commit":         transactionCommit,
	"transaction-invisible":      transactionInvisible,
	"transaction-rollback":       transactionRollback,
	"transaction-check":          transactionCheck,
	"transaction-check-rollback": transactionCheckRollback,
	"transaction-restart":        transactionRestart,

	"priority":            priority,
	"lite-subscribe":      liteSubscribe,
	"lite-unsubscribe":    liteUnsubscribe,
	"sql-filter":          sqlFilter,
	"sql-filter-push":     sqlFilterPush,
	"sql-null":            sqlNull,
	"sql-broken":          sqlBroken,
	"broadcasting":        broadcasting,
	"broadcasting-simple": broadcastingSimple,

	"dead-letter-origin": deadLetterOrigin,
	"redrive":            redrive,
	"reset-earliest":     resetEarliest,
	"reset-timestamp":    resetTimestamp,
	"reset-latest":       resetLatest,
}

// unsupported says why the client cannot, for every case that is not above.
var unsupported = map[string]string{
	"batch-send":  "client sends single messages",
	"lite-simple": "client has no simple consumer of lite topics",
}
