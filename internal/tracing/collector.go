package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	requestTimeout = 10 * time.Second // OTLP's own default
	mostAnswer     = 64 << 10         // bytes of an answer that are read, so that the connection can be used again
)

// collector is the HTTP side of OTLP. It implements otlptrace.Client.
type collector struct {
	url    string
	header http.Header
	client *http.Client
}

func newCollector(endpoint *url.URL, header http.Header) *collector {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/x-protobuf")
	header.Set("User-Agent", "meterworker")
	return &collector{
		url: endpoint.JoinPath("v1", "traces").String(), header: header,
		client: &http.Client{
			Timeout:   requestTimeout,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
			// The headers may hold credentials: they go where the operator said, nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Start implements otlptrace.Client: the first request connects.
func (c *collector) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. TracesData is on the wire what the collector's
// ExportTraceServiceRequest is; that one's package brings gRPC along.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = c.header
	answer, err := c.client.Do(request)
	if address := (*url.Error)(nil); errors.As(err, &address) {
		err = address.Err // without the address, which may hold a token
	}
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.CopyN(io.Discard, answer.Body, mostAnswer)
	if answer.StatusCode/100 != 2 {
		return &refusedError{answer.StatusCode}
	}
	return nil
}

// refusedError is an answer of the collector's that is no acceptance.
type refusedError struct{ status int }

func (e *refusedError) Error() string { return fmt.Sprintf("the collector answered %d", e.status) }

// again reports whether the same request may succeed later, by OTLP's list.
func (e *refusedError) again() bool {
	switch e.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
