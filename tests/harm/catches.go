// With a word, it catches every signal, as a program does that has an end of its own for each of them; TERM ends it.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 16)
	if len(os.Args) > 1 {
		signal.Notify(signals)
	}
	fmt.Println("up", os.Getpid())
	go func() {
		for got := range signals {
			if got == syscall.SIGTERM {
				os.Exit(0)
			}
			// The runtime sends itself this one.
			if got != syscall.SIGURG {
				fmt.Println("got", got)
			}
		}
	}()
	time.Sleep(time.Duration(1<<63 - 1))
}
