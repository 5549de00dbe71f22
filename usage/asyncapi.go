package usage

// AsyncAPI returns the AsyncAPI 3.0 document of what producers and operators
// publish, as indented JSON, always the same bytes. Its payload is the schema
// that [Schema] renders.
func AsyncAPI() []byte {
	return render(schema{
		"asyncapi": "3.0.0",
		"info": schema{
			"title":       "Usage events",
			"version":     "1.0.0",
			"description": "Usage events that meterworker bills through Stripe. Publish with JetStream and wait for its acknowledgement: from then on the event will be billed, or a person will know.",
		},
		"defaultContentType": "application/json",
		"channels": schema{
			"events": channel(eventsPrefix, "usageEvent", "Where producers publish."),
			"replay": channel(replayPrefix, "replayedEvent", "Where operators publish an event again. Give no producer the permission: here headers win over the body."),
		},
		"operations": schema{
			"publishEvent": operation("events", "usageEvent", "Report usage."),
			"replayEvent":  operation("replay", "replayedEvent", "Bill a dead letter after all."),
		},
		"components": schema{
			"schemas": schema{"usageEvent": bodySchema()},
			"messages": schema{
				"usageEvent":    message(messageIDHeader()),
				"replayedEvent": message(replayHeaders()),
			},
		},
	})
}

func channel(prefix, message, description string) schema {
	const encoding = ", with every byte outside A-Z, a-z, 0-9, _ and - written =XX in upper-case hexadecimal."
	return schema{
		"address":     prefix + "{event_name}.{customer}",
		"description": description,
		"messages":    schema{message: reference("/components/messages/" + message)},
		"parameters": schema{
			"event_name": schema{"description": "event_name of the body" + encoding},
			"customer":   schema{"description": "payload.stripe_customer_id of the body" + encoding},
		},
	}
}

func operation(channel, message, summary string) schema {
	return schema{
		"action":   "send",
		"summary":  summary,
		"channel":  reference("/channels/" + channel),
		"messages": []schema{reference("/channels/" + channel + "/messages/" + message)},
	}
}

func message(headers schema) schema {
	return schema{
		"contentType": "application/json",
		"headers":     headers,
		"payload":     reference("/components/schemas/usageEvent"),
		"examples":    []schema{{"payload": example()}},
	}
}

func reference(path string) schema { return schema{"$ref": "#" + path} }

func messageIDHeader() schema {
	return schema{"type": "object", "properties": schema{
		headerMessageID: schema{
			"type":        "string",
			"description": "JetStream drops a message with an id that it had within the duplicate window. With an identifier in the body, send a hash of subject and body; without one, this is the identifier.",
		},
		HeaderTraceparent: traceparentHeader(),
	}}
}

func replayHeaders() schema {
	return schema{"type": "object", "properties": schema{
		HeaderIdentifier: identifierRule.schema("Wins over the body's identifier."),
		HeaderTimestamp: schema{
			"type":        "string",
			"description": "Wins over the body's timestamp: Unix seconds or RFC 3339.",
			"anyOf":       []schema{{"pattern": secondsPattern}, {"pattern": rfc3339Pattern}},
		},
		HeaderTraceparent: traceparentHeader(),
	}}
}

func traceparentHeader() schema {
	return schema{
		"type":        "string",
		"description": "W3C trace context of the request that the usage is of; the worker's spans join its trace. A malformed one is ignored.",
	}
}
