package main

import (
	"time"

	"github.com/meterworker/meterworker/internal/sender"
)

// Settings is the one definition of the configuration. Its tags yield the
// flags, the environment, the keys of the YAML file, the help text and
// docs/configuration.md:
//
//	name         the flag and the key in the file
//	variable     the environment variable
//	preset       the value when nobody gives one
//	presettext   how the help describes a preset that depends on other settings
//	holds        "url" for a value that may carry a user and a password
//	choices      the only values, for refusals and completion
//	help         one sentence; the unit and the range are in it
//
// A field is nil unless its flag was given: kong parses flags only, so that the
// loader can tell where each value came from, and can report every problem at
// once instead of the first. A command that needs only some of the settings
// embeds only those groups.
type Settings struct {
	ConfigFile
	NATSSettings     `group:"nats"`
	StripeSettings   `group:"stripe"`
	DeliverySettings `group:"delivery"`
	StreamSettings   `group:"streams"`
	LedgerSettings   `group:"ledger"`
	HTTPSettings     `group:"http"`
	TracingSettings  `group:"tracing"`
	LogSettings      `group:"log"`
}

// environmentOnly marks a secret: arguments are readable by every process of
// the host and files of settings get committed, so it has neither a flag nor a
// key in the file, and nothing here ever holds its value.
type environmentOnly struct{}

// ConfigFile names the YAML file of settings.
type ConfigFile struct {
	Config *string `name:"config" placeholder:"FILE" help:"YAML file of settings; its keys are the names of the flags. Flags and environment win over it."`
}

// NATSSettings say where the streams are.
type NATSSettings struct {
	NATSURL         *string `name:"nats-url" variable:"NATS_URL" presettext:"an embedded server" placeholder:"URL" holds:"url" help:"Addresses of the NATS servers, separated by commas."`
	NATSCreds       *string `name:"nats-creds" variable:"NATS_CREDS" placeholder:"FILE" help:"Credentials file of the NATS user."`
	NATSCA          *string `name:"nats-ca" variable:"NATS_CA" placeholder:"FILE" help:"Certificates (PEM) of the authorities that the NATS server is trusted by."`
	NATSCert        *string `name:"nats-cert" variable:"NATS_CERT" placeholder:"FILE" help:"Client certificate (PEM) for NATS; needs its key."`
	NATSKey         *string `name:"nats-key" variable:"NATS_KEY" placeholder:"FILE" help:"Private key (PEM) of the client certificate."`
	NATSInboxPrefix *string `name:"nats-inbox-prefix" variable:"NATS_INBOX_PREFIX" preset:"_INBOX" placeholder:"SUBJECT" help:"Where answers of the server are received: the prefix that the NATS user may subscribe to."`
	DataDir         *string `name:"data-dir" variable:"METERWORKER_DATA_DIR" preset:"./data" placeholder:"DIR" help:"Folder of the embedded NATS server, used without a NATS URL."`
}

// StripeSettings say how to reach Stripe, and as whom.
type StripeSettings struct {
	StripeAPIKeyFile        *string         `name:"stripe-api-key-file" variable:"STRIPE_API_KEY_FILE" placeholder:"FILE" help:"File with the secret or restricted key; watched, so that a rotation needs no restart. Wins over STRIPE_API_KEY."`
	StripeAPIKey            environmentOnly `kong:"-" name:"stripe-api-key" variable:"STRIPE_API_KEY" help:"The key itself, from the environment only."`
	Mode                    *string         `name:"mode" variable:"METERWORKER_MODE" presettext:"from the key" choices:"live,test" placeholder:"MODE" help:"live or test; a key of the other mode is refused."`
	StripeAPIBase           *string         `name:"stripe-api-base" variable:"STRIPE_API_BASE" presettext:"Stripe" placeholder:"URL" holds:"url" help:"Base URL of Stripe's API; plain http only to loopback."`
	StripeMeterEventsBase   *string         `name:"stripe-meter-events-base" variable:"STRIPE_METER_EVENTS_BASE" presettext:"Stripe" placeholder:"URL" holds:"url" help:"Base URL of the v2 event stream; plain http only to loopback."`
	StripeVersion           *string         `name:"stripe-version" variable:"STRIPE_VERSION" preset:"2024-10-28.acacia" placeholder:"VERSION" help:"Version of Stripe's API that every request names."`
	StripeWebhookSecretFile *string         `name:"stripe-webhook-secret-file" variable:"STRIPE_WEBHOOK_SECRET_FILE" presettext:"off" placeholder:"FILE" help:"File with the signing secret (whsec_) of the webhook endpoint, one a line: two during a rotation. Watched, so that one needs no restart. Wins over STRIPE_WEBHOOK_SECRET."`
	StripeWebhookSecret     environmentOnly `kong:"-" name:"stripe-webhook-secret" variable:"STRIPE_WEBHOOK_SECRET" presettext:"off" help:"The signing secret itself, from the environment only."`
}

// DeliverySettings say how fast and how patiently events are sent.
type DeliverySettings struct {
	API               *string `name:"api" variable:"METERWORKER_API" preset:"v1" choices:"v1,v2" placeholder:"API" help:"Stripe API for usage: v1, one event a request, or v2, the high-throughput stream, which takes live keys only."`
	Rate              *string `name:"rate" variable:"METERWORKER_RATE" presettext:"1000 (v1 live), 25 (test key against Stripe itself), 10000 events (v2)" placeholder:"N" help:"Requests a second, with v2 events, for the whole Stripe account, over all replicas; above 0, at most 1000000."`
	SafeWindow        *string `name:"safe-window" variable:"METERWORKER_SAFE_WINDOW" preset:"23h" placeholder:"DURATION" help:"For how long after its first attempt an event may be sent again; at least the attempt timeout, below the 24h that Stripe remembers an identifier."`
	AckWait           *string `name:"ack-wait" variable:"METERWORKER_ACK_WAIT" preset:"30s" placeholder:"DURATION" help:"When JetStream delivers an unsettled message again; at least the attempt timeout + 2s."`
	AttemptTimeout    *string `name:"attempt-timeout" variable:"METERWORKER_ATTEMPT_TIMEOUT" preset:"10s" placeholder:"DURATION" help:"Bound of one request to Stripe; 1ms to 24h."`
	ShutdownTimeout   *string `name:"shutdown-timeout" variable:"METERWORKER_SHUTDOWN_TIMEOUT" preset:"25s" placeholder:"DURATION" help:"Bound of the drain after SIGTERM, 1ms to 24h; keep it below the grace period of the platform."`
	ForeignDuplicates *string `name:"foreign-duplicates" variable:"METERWORKER_FOREIGN_DUPLICATES" preset:"dead-letter" choices:"dead-letter,accept" placeholder:"RULE" help:"What to do when Stripe knows an identifier that this worker never sent: dead-letter, or accept it as delivered, which trusts the other sender with the content."`
}

// StreamSettings are properties of the JetStream streams.
type StreamSettings struct {
	Partitions     *string `name:"partitions" variable:"METERWORKER_PARTITIONS" preset:"24" placeholder:"N" help:"Partitions of the outbox, 1 to 256; fixed when the stream is created."`
	StreamReplicas *string `name:"stream-replicas" variable:"METERWORKER_STREAM_REPLICAS" preset:"1" placeholder:"N" help:"Copies of each stream in the NATS cluster, 1 to 5."`
	Retention      *string `name:"retention" variable:"METERWORKER_RETENTION" preset:"168h" placeholder:"DURATION" help:"How long delivered messages stay readable in the outbox; at least 96h."`
	ManageStreams  *string `name:"manage-streams" variable:"METERWORKER_MANAGE_STREAMS" preset:"true" choices:"true,false" placeholder:"BOOL" help:"Create missing streams at the start; false only checks them."`
}

// LedgerSettings bound the memory of what was billed.
type LedgerSettings struct {
	DedupWindow    *string `name:"dedup-window" variable:"METERWORKER_DEDUP_WINDOW" preset:"864h" placeholder:"DURATION" help:"How long an identifier is remembered; 25h to 8760h. Keep it above METERWORKER_RETENTION; an event without a timestamp of its own is known for this long only."`
	LedgerMaxBytes *string `name:"ledger-max-bytes" variable:"METERWORKER_LEDGER_MAX_BYTES" preset:"1GiB" placeholder:"SIZE" help:"Memory for remembered identifiers, with a unit (KiB, MiB, GiB); at least 1MiB."`
}

// HTTPSettings say where the worker listens.
type HTTPSettings struct {
	AdminAddr            *string `name:"admin-addr" variable:"METERWORKER_ADMIN_ADDR" preset:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of /livez, /readyz and /metrics, and of the console."`
	AdminTokenFile       *string `name:"admin-token-file" variable:"METERWORKER_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"File with the token that the console asks for, 16 bytes or more; watched, so that a rotation needs no restart. Beyond loopback there is no console without one."`
	AdminReadOnly        *string `name:"admin-read-only" variable:"METERWORKER_ADMIN_READ_ONLY" preset:"false" choices:"true,false" placeholder:"BOOL" help:"Refuse whatever the console could change."`
	AdminNATSURL         *string `name:"admin-nats-url" variable:"METERWORKER_ADMIN_NATS_URL" presettext:"as the worker" placeholder:"URL" holds:"url" help:"Addresses of the NATS servers with the user and password of the console, which needs an operator's permissions."`
	AdminNATSCreds       *string `name:"admin-nats-creds" variable:"METERWORKER_ADMIN_NATS_CREDS" presettext:"as the worker" placeholder:"FILE" help:"Credentials file of the console's NATS user."`
	AdminNATSInboxPrefix *string `name:"admin-nats-inbox-prefix" variable:"METERWORKER_ADMIN_NATS_INBOX_PREFIX" presettext:"_INBOX for a user of its own" placeholder:"SUBJECT" help:"Where the console receives answers: the prefix that its NATS user may subscribe to."`
	WebhookAddr          *string `name:"webhook-addr" variable:"METERWORKER_WEBHOOK_ADDR" preset:"127.0.0.1:4242" placeholder:"HOST:PORT" help:"Address of /webhooks, open when there is a webhook secret."`
}

// TracingSettings let people look into a running worker. Those of OpenTelemetry have its
// own names.
type TracingSettings struct {
	OTLPEndpoint   *string         `name:"otel-exporter-otlp-endpoint" variable:"OTEL_EXPORTER_OTLP_ENDPOINT" presettext:"off" placeholder:"URL" holds:"url" help:"Base URL of an OpenTelemetry collector that takes OTLP over HTTP, for example http://otel-collector:4318; without it nothing is traced."`
	OTLPHeaders    environmentOnly `kong:"-" name:"otel-exporter-otlp-headers" variable:"OTEL_EXPORTER_OTLP_HEADERS" help:"Headers of every request to the collector, name=value with commas between them, from the environment only."`
	ServiceName    *string         `name:"otel-service-name" variable:"OTEL_SERVICE_NAME" preset:"meterworker" placeholder:"NAME" help:"Name of the service in traces."`
	TracesSampler  *string         `name:"otel-traces-sampler" variable:"OTEL_TRACES_SAMPLER" preset:"parentbased_always_on" choices:"parentbased_always_on,parentbased_always_off,parentbased_traceidratio,always_on,always_off,traceidratio" placeholder:"SAMPLER" help:"Which events are traced; parentbased ones do as the producer did and decide only about messages without a traceparent."`
	TracesShare    *string         `name:"otel-traces-sampler-arg" variable:"OTEL_TRACES_SAMPLER_ARG" preset:"1" placeholder:"SHARE" help:"Share of the traces for the samplers with traceidratio, 0 to 1."`
	ProfileAddress *string         `name:"pprof-addr" variable:"METERWORKER_PPROF_ADDR" presettext:"off" placeholder:"HOST:PORT" help:"Address of /debug/pprof/, on loopback only."`
}

// LogSettings shape the log on standard error.
type LogSettings struct {
	LogLevel  *string `name:"log-level" variable:"METERWORKER_LOG_LEVEL" preset:"info" choices:"debug,info,warn,error" placeholder:"LEVEL" help:"Least severe line to log: debug, info, warn or error."`
	LogFormat *string `name:"log-format" variable:"METERWORKER_LOG_FORMAT" presettext:"json; console on a terminal" choices:"json,console" placeholder:"FORMAT" help:"json, one object a line, or console, for people."`
}

// Config is the configuration after validation: every value is in the range
// that its setting's help names, and the settings agree with one another.
type Config struct {
	// NATSURL is empty for the embedded server.
	NATSURL                              string
	NATSCreds, NATSCA, NATSCert, NATSKey string
	// NATSInboxPrefix is a subject without wildcards.
	NATSInboxPrefix string

	// Mode is "live" or "test", empty when neither setting nor key says so.
	Mode string
	// Live is true for live mode.
	Live bool
	// KeyFile is empty when the key came from the environment.
	KeyFile string
	// Key is the zero value unless a key was asked for and found.
	Key sender.Key

	// APIBase and MeterEventsBase are empty for Stripe itself.
	APIBase, MeterEventsBase string
	// Version is the value of the Stripe-Version header.
	Version string

	// API is "v1" or "v2".
	API string
	// Rate is in requests a second over all replicas, with API v2 in events.
	Rate float64

	SafeWindow, AckWait, AttemptTimeout, ShutdownTimeout time.Duration

	Partitions, StreamReplicas int
	Retention                  time.Duration
	ManageStreams              bool

	DedupWindow             time.Duration
	LedgerMaxBytes          int64
	AcceptForeignDuplicates bool

	DataDir string

	AdminAddr, AdminTokenFile string
	AdminReadOnly             bool
	// Of the console's own NATS user; empty where it is the worker's.
	AdminNATSURL, AdminNATSCreds, AdminNATSInboxPrefix string

	WebhookAddr string
	// WebhookSecretFile wins over WebhookSecret; without either, no webhooks.
	WebhookSecretFile string
	WebhookSecret     secret

	// Tracing is the zero value when it is off.
	Tracing tracingConfig
	// PprofAddr is on loopback, or empty.
	PprofAddr string

	LogLevel, LogFormat string
}
