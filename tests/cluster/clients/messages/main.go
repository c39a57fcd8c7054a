// Command messages sends and receives with the official RocketMQ 5 Go client,
// unmodified, and prints one line for each message, so that a script can count
// what was promised against what came:
//
//	acknowledged BODY ID            the broker has promised to keep it
//	handled BODY ID attempt N       received, before its acknowledgement
//
// messages send --topic T --count N --prefix P [--rate R]
// messages receive --topic T --group G [--expect N] [--idle S]   (simple consumer)
// messages push --topic T --group G [--expect N] [--idle S]      (push consumer)
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const startPause = time.Second

// settings holds every flag of every verb; each verb reads its own.
type settings struct {
	endpoint, topic, group, prefix, tag string
	count, rate, expect, batch          int
	idle, timeout, invisible            time.Duration
	plaintext                           bool
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	verbs := map[string]func(context.Context, settings) error{"send": send, "receive": receive, "push": push}
	verb, known := verbs[os.Args[1]]
	if !known {
		usage()
	}
	s := parse(os.Args[1], os.Args[2:])
	rocketmq.EnableSsl = !s.plaintext
	logToStandardError()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// The client's start has no deadline of its own: it waits for the server's
	// settings for ever. This one ends the process whatever the client does.
	time.AfterFunc(s.timeout+10*time.Second, func() { fail(fmt.Errorf("not done %s after the timeout", 10*time.Second)) })
	if err := verb(ctx, s); err != nil {
		fail(err)
	}
}

func parse(verb string, arguments []string) settings {
	var s settings
	f := flag.NewFlagSet("messages "+verb, flag.ExitOnError)
	f.StringVar(&s.endpoint, "endpoint", os.Getenv("PINNACE_ENDPOINT"), "host:port of the brokers (default $PINNACE_ENDPOINT)")
	f.StringVar(&s.topic, "topic", "", "topic")
	f.BoolVar(&s.plaintext, "plaintext", false, "no TLS (the client's default is TLS)")
	f.DurationVar(&s.timeout, "timeout", 2*time.Minute, "give up with exit 1 after this long")
	if verb == "send" {
		f.IntVar(&s.count, "count", 1, "how many messages")
		f.StringVar(&s.prefix, "prefix", "message", "body is PREFIX-NUMBER")
		f.StringVar(&s.tag, "tag", "", "tag of each message")
		f.IntVar(&s.rate, "rate", 0, "messages per second, 0: as fast as they are acknowledged")
	} else {
		f.StringVar(&s.group, "group", "", "consumer group")
		f.IntVar(&s.expect, "expect", 0, "end when so many different bodies were handled, 0: no number")
		f.DurationVar(&s.idle, "idle", 0, "end when nothing more came for this long")
		f.IntVar(&s.batch, "batch", 16, "receive: messages asked for at once")
		f.DurationVar(&s.invisible, "invisible", 30*time.Second, "receive: how long a message is ours before others may have it")
	}
	_ = f.Parse(arguments)
	if s.endpoint == "" || s.topic == "" || (verb != "send" && s.group == "") {
		fmt.Fprintln(os.Stderr, "messages: --endpoint, --topic and, to receive, --group are needed")
		os.Exit(2)
	}
	return s
}

func (s settings) config() *rocketmq.Config {
	// The client dereferences the credentials: an empty struct, not nil.
	return &rocketmq.Config{Endpoint: s.endpoint, ConsumerGroup: s.group, Credentials: &credentials.SessionCredentials{}}
}

// client is what the producer and both kinds of consumer have in common.
type client interface {
	Start() error
	GracefulStop() error
}

// start makes and starts a client until one starts or the context ends: the
// topic may not be routable yet, or the broker be away.
func start[C client](ctx context.Context, create func() (C, error)) (C, error) {
	for {
		c, err := create()
		if err != nil {
			return c, err
		}
		if err = c.Start(); err == nil {
			return c, nil
		}
		fmt.Fprintf(os.Stderr, "start: %v\n", err)
		if !pause(ctx, startPause) {
			return c, fmt.Errorf("the client did not start: %w", err)
		}
	}
}

// pause waits, or returns false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// logToStandardError keeps standard output for our own lines; the client logs
// into a file below $HOME otherwise, which a read-only container has not.
func logToStandardError() {
	os.Setenv(rocketmq.ENABLE_CONSOLE_APPENDER, "true")
	os.Setenv(rocketmq.CLIENT_LOG_LEVEL, "warn")
	output := os.Stdout
	os.Stdout = os.Stderr
	rocketmq.ResetLogger()
	os.Stdout = output
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: messages send|receive|push --endpoint HOST:PORT --topic T ... (-h after the verb lists the flags)")
	os.Exit(2)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "messages:", err)
	os.Exit(1)
}
