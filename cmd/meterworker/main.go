// Command meterworker takes usage events from NATS JetStream and delivers each,
// in effect exactly once, to Stripe's billing meters.
//
// Each command lives in a file of its own, cmd_<name>.go, as a struct that kong
// fills and a method Run that does the work. The configuration has one
// definition, Settings in config.go; a command embeds it, or the groups of it
// that it needs, and turns it into a validated Config.
//
// Exit codes: 0 done, 1 failed, 2 bad usage or configuration.
package main

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

// CLI is the root of the commands, in the order of the help text.
type CLI struct {
	Run         RunCmd            `cmd:"" group:"operate" help:"Deliver usage from NATS JetStream to Stripe: the daemon."`
	Demo        DemoCmd           `cmd:"" group:"operate" help:"See it all work, without a key or a network: traffic, faults, and the books at the end."`
	Config      ConfigCmd         `cmd:"" group:"operate" help:"Check or print the configuration."`
	Healthcheck HealthcheckCmd    `cmd:"" group:"operate" help:"Ask a running worker whether it is ready, for container probes."`
	Publish     PublishCmd        `cmd:"" group:"operate" help:"Store usage events: one from flags, or JSON lines from standard input."`
	Pause       PauseCmd          `cmd:"" group:"operate" help:"Stop the whole fleet's fetching; usage goes on being stored."`
	Resume      ResumeCmd         `cmd:"" group:"operate" help:"End a pause, or let a halted worker try again."`
	Accept      AcceptRestoredCmd `cmd:"" name:"accept-restored" group:"operate" help:"Declare that streams which were restored or made anew may be worked with."`
	Dlq         DLQCmd            `cmd:"" group:"operate" help:"List, show, replay, edit, discard, export and import dead letters."`
	Audit       AuditCmd          `cmd:"" group:"operate" help:"List what people did by hand: who, when, why, and to what."`
	Status      StatusCmd         `cmd:"" group:"operate" help:"Show how delivery goes: backlog, rate, workers, dead letters."`
	Doctor      DoctorCmd         `cmd:"" group:"operate" help:"Check NATS, Stripe, streams, workers and clocks; each finding with its remedy."`
	Reconcile   ReconcileCmd      `cmd:"" group:"operate" help:"Compare what was delivered with what Stripe has counted, and name what differs."`
	Provision   ProvisionCmd      `cmd:"" group:"operate" help:"Create the streams, so that workers need no right to."`
	Schema      SchemaCmd         `cmd:"" group:"tools" help:"Print the JSON Schema of the message body, or the AsyncAPI document."`
	Simulate    SimulateCmd       `cmd:"" group:"tools" help:"Run the simulated Stripe as a server."`
	Completion  CompletionCmd     `cmd:"" group:"tools" help:"Print a completion script for a shell."`
	Version     VersionCmd        `cmd:"" group:"tools" help:"Print the version of this program."`
}

// Help is the text below the one-line description.
func (CLI) Help() string {
	return `Settings come from flags, the environment and a YAML file, in this order; ` +
		`every flag of a command names its variable.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration.`
}

// process is what a command sees of the process it runs in.
type process struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	Env environment
	// Args is the command line without the program's name.
	Args []string
	// Terminal tells whether Err is one.
	Terminal bool
}

// load turns flags, environment and file into a Config; warnings go to Err.
// flags points to a struct that embeds Settings or some of its groups.
func (p *process) load(flags any, need keyNeed) (Config, error) {
	result, err := loadConfig(flags, p.Env, need, p.Terminal)
	p.warn(result.Warnings)
	return result.Config, err
}

func (p *process) warn(warnings []string) {
	for _, warning := range warnings {
		_, _ = fmt.Fprintf(p.Err, "meterworker: warning: %s\n", escapeText(warning))
	}
}

func main() {
	// net/http prints what a server sent out of turn, up to 4 KiB of a reply,
	// through the standard logger. Ours is zap, and replies are never logged.
	stdlog.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The first signal asks for an orderly end; after it the default is back,
	// so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	code := execute(ctx, os.Args[1:], &process{
		In:       os.Stdin,
		Out:      os.Stdout,
		Err:      os.Stderr,
		Env:      newEnvironment(os.Environ()),
		Terminal: term.IsTerminal(int(os.Stderr.Fd())),
	})
	stop()
	os.Exit(code)
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, p *process) int {
	helped := false // kong answers --help by itself and then asks to exit
	p.Args = args
	parser, err := newParser(p, func(int) { helped = true })
	if err != nil {
		return report(p, err)
	}
	command, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		return report(p, &usageError{err})
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return report(p, command.Run(p))
}
