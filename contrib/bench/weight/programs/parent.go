// The smallest parent in Go, with what the launcher of the Go library rs/seamless needs at least: a process that is
// started anew, and signals that are passed on to it. The library itself is not fetched for a benchmark.
package main

import (
	"os"
	"os/exec"
	"os/signal"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(125)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	command := exec.Command(os.Args[1], os.Args[2:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := command.Start(); err != nil {
		os.Exit(127)
	}
	go func() {
		for one := range signals {
			command.Process.Signal(one)
		}
	}()
	command.Wait()
	os.Exit(command.ProcessState.ExitCode())
}
