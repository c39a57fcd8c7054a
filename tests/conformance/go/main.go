// Runs one conformance case with the official Go client and prints one JSON line.
// The cases are in cases_*.go, the client's own forms in clients.go. The process ends
// at once after the answer, without waiting for long polls.
package main

import (
	"encoding/json"
	"flag"
	"fmt"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

type options struct {
	endpoint       string
	topic          string
	group          string
	secondGroup    string
	unknownTopic   string
	largeBodyBytes int
}

type answer struct {
	Case   string `json:"case"`
	Result string `json:"result"`
	Detail string `json:"detail"`
}

func main() {
	var given options
	name := flag.String("case", "", "the case to run")
	tls := flag.Bool("tls", false, "leave TLS on, which is this client's default")
	flag.StringVar(&given.endpoint, "endpoint", "", "host:port of the broker")
	flag.StringVar(&given.topic, "topic", "conformance", "")
	flag.StringVar(&given.group, "group", "conformance", "")
	flag.StringVar(&given.secondGroup, "second-group", "conformance-second", "")
	flag.StringVar(&given.unknownTopic, "unknown-topic", "no-such-topic", "")
	flag.IntVar(&given.largeBodyBytes, "large-body-bytes", 4*1024*1024, "")
	flag.Parse()
	rmq.EnableSsl = *tls
	result := answer{Case: *name, Result: "unsupported", Detail: unsupported[*name]}
	if result.Detail == "" {
		result = attempt(*name, cases[*name], &clients{given: given})
	}
	line, _ := json.Marshal(result)
	fmt.Println(string(line))
}

// attempt turns a failed check, which is a panic, into the answer.
func attempt(name string, run func(*clients) string, all *clients) (result answer) {
	defer func() {
		if cause := recover(); cause != nil {
			result = answer{Case: name, Result: "fail", Detail: fmt.Sprint(cause)}
		}
	}()
	return answer{Case: name, Result: "pass", Detail: run(all)}
}
