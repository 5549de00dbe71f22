package main

import "github.com/meterworker/meterworker/usage"

// SchemaCmd prints the contract with producers.
type SchemaCmd struct {
	Format string `enum:"json-schema,asyncapi" default:"json-schema" placeholder:"FORMAT" help:"json-schema, of the message body, or asyncapi, of subjects, headers and body."`
}

// Help shows how the command is used.
func (SchemaCmd) Help() string {
	return "Examples:\n\n" +
		"  meterworker schema > usage-event.schema.json\n" +
		"  meterworker schema --format asyncapi"
}

// Run prints the document.
func (c SchemaCmd) Run(p *process) error {
	document := usage.Schema()
	if c.Format == "asyncapi" {
		document = usage.AsyncAPI()
	}
	if len(document) == 0 || document[len(document)-1] != '\n' {
		document = append(document, '\n')
	}
	_, err := p.Out.Write(document)
	return err
}
