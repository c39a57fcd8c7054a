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
}

// unsupported says why the client cannot, for every case that is not above.
var unsupported = map[string]string{
	"batch-send":  "client sends single messages",
	"lite-simple": "client has no simple consumer of light topics",
}
