// The AWS SDK for Go, version 2, as Debian has it: puts, gets and subscribes. Arguments: endpoint and
// stream; credentials from the environment, the authority to trust in SSL_CERT_FILE. Prints one JSON
// object with what it found.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const patience = 60 * time.Second

type found struct {
	Got         []string `json:"got"`         // data of all records, by GetRecords
	Shards      int      `json:"shards"`      // that had records
	Subscribed  []string `json:"subscribed"`  // the same, by SubscribeToShard
	Pushed      string   `json:"pushed"`      // put while the subscription stood
	Refused     string   `json:"refused"`     // the exception's type for a stream that is not there
	Invalid     string   `json:"invalid"`     // and for a shard iterator that is none
	Protocols   []string `json:"protocols"`   // of the answers
	Consumers   int      `json:"consumers"`   // by the paginator
	AfterDelete string   `json:"afterDelete"` // of the consumer
}

// The SDK's own HTTP client; notes which protocol each answer came over.
type watching struct {
	base      *awshttp.BuildableClient
	protocols map[string]bool
}

func (w *watching) Do(request *http.Request) (*http.Response, error) {
	// This version of the SDK closes a request's body when the answer has begun. The transport may not
	// have noticed its end by then, if the answer is quick, and closes the connection in the middle of
	// the answer. So it is given a body of its own.
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		request = request.Clone(request.Context())
		request.Body = io.NopCloser(bytes.NewReader(body))
	}
	answer, err := w.base.Do(request)
	if answer != nil {
		w.protocols[answer.Proto] = true
	}
	return answer, err
}

type run struct {
	client *kinesis.Client
	stream string
	found  found
}

func (r *run) waitActive(ctx context.Context) (string, error) {
	for {
		answer, err := r.client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{
			StreamName: &r.stream})
		if err != nil {
			return "", err
		}
		summary := answer.StreamDescriptionSummary
		if summary.StreamStatus == types.StreamStatusActive {
			return *summary.StreamARN, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// What is pushed back, for instance while room on the disks is being reserved, is put again.
func (r *run) put(ctx context.Context, texts []string) error {
	for len(texts) > 0 {
		var entries []types.PutRecordsRequestEntry
		for i := range texts {
			entries = append(entries, types.PutRecordsRequestEntry{
				PartitionKey: aws.String("key-" + texts[i]), Data: []byte(texts[i])})
		}
		answer, err := r.client.PutRecords(ctx, &kinesis.PutRecordsInput{
			StreamName: &r.stream, Records: entries})
		if err != nil {
			return err
		}
		var again []string
		for i, record := range answer.Records {
			if record.ErrorCode != nil {
				again = append(again, texts[i])
			}
		}
		if len(again) != int(*answer.FailedRecordCount) {
			return fmt.Errorf("%d records have errors, FailedRecordCount is %d", len(again),
				*answer.FailedRecordCount)
		}
		texts = again
	}
	return nil
}

// A shard's records from its oldest to its newest.
func (r *run) get(ctx context.Context, shard types.Shard) ([]string, error) {
	begin, err := r.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamName: &r.stream, ShardId: shard.ShardId,
		ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	if err != nil {
		return nil, err
	}
	var texts []string
	for iterator := begin.ShardIterator; ; {
		answer, err := r.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator})
		if err != nil {
			return nil, err
		}
		for _, record := range answer.Records {
			texts = append(texts, string(record.Data))
		}
		if len(answer.Records) == 0 && *answer.MillisBehindLatest == 0 {
			return texts, nil
		}
		iterator = answer.NextShardIterator
	}
}

// Reads events until `wanted` records have come.
func next(events <-chan types.SubscribeToShardEventStream, wanted int) ([]string, error) {
	var texts []string
	deadline := time.After(patience)
	for len(texts) < wanted {
		select {
		case event, open := <-events:
			if !open {
				return nil, fmt.Errorf("the subscription ended after %d records of %d", len(texts), wanted)
			}
			found, known := event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent)
			if !known {
				return nil, fmt.Errorf("found an event of type %T", event)
			}
			if found.Value.ContinuationSequenceNumber == nil {
				return nil, errors.New("an event of an open shard without ContinuationSequenceNumber")
			}
			for _, record := range found.Value.Records {
				texts = append(texts, string(record.Data))
			}
		case <-deadline:
			return nil, fmt.Errorf("%d records of %d came", len(texts), wanted)
		}
	}
	return texts, nil
}

func (r *run) subscribe(ctx context.Context, arn string, shards []types.Shard, counts []int) error {
	made, err := r.client.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{
		StreamARN: &arn, ConsumerName: aws.String("go")})
	if err != nil {
		return err
	}
	consumer := made.Consumer.ConsumerARN
	for i, shard := range shards {
		answer, err := r.client.SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{
			ConsumerARN: consumer, ShardId: shard.ShardId,
			StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon}})
		if err != nil {
			return err
		}
		stream := answer.GetStream()
		texts, err := next(stream.Events(), counts[i])
		if err != nil {
			return fmt.Errorf("%s: %w (%v)", *shard.ShardId, err, stream.Err())
		}
		r.found.Subscribed = append(r.found.Subscribed, texts...)
		if i == 0 {
			_, err = r.client.PutRecord(ctx, &kinesis.PutRecordInput{
				StreamName: &r.stream, PartitionKey: aws.String("pushed"), Data: []byte("pushed"),
				ExplicitHashKey: shard.HashKeyRange.StartingHashKey})
			if err != nil {
				return err
			}
			if texts, err = next(stream.Events(), 1); err != nil {
				return fmt.Errorf("pushed: %w (%v)", err, stream.Err())
			}
			r.found.Pushed = texts[0]
		}
		if err := stream.Close(); err != nil {
			return err
		}
	}
	sort.Strings(r.found.Subscribed)
	pages := kinesis.NewListStreamConsumersPaginator(r.client, &kinesis.ListStreamConsumersInput{
		StreamARN: &arn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		r.found.Consumers += len(page.Consumers)
	}
	_, err = r.client.DeregisterStreamConsumer(ctx, &kinesis.DeregisterStreamConsumerInput{
		ConsumerARN: consumer})
	if err != nil {
		return err
	}
	_, err = r.client.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{
		ConsumerARN: consumer})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		r.found.AfterDelete = missing.ErrorCode()
	}
	return nil
}

func (r *run) all(ctx context.Context) error {
	_, err := r.client.CreateStream(ctx, &kinesis.CreateStreamInput{
		StreamName: &r.stream, ShardCount: aws.Int32(2)})
	if err != nil {
		return err
	}
	arn, err := r.waitActive(ctx)
	if err != nil {
		return err
	}
	var texts []string
	for i := 0; i < 100; i++ {
		texts = append(texts, fmt.Sprintf("text %03d", i))
	}
	if err := r.put(ctx, texts); err != nil {
		return err
	}
	listed, err := r.client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &r.stream})
	if err != nil {
		return err
	}
	counts := make([]int, len(listed.Shards))
	for i, shard := range listed.Shards {
		got, err := r.get(ctx, shard)
		if err != nil {
			return err
		}
		counts[i] = len(got)
		if counts[i] > 0 {
			r.found.Shards++
		}
		r.found.Got = append(r.found.Got, got...)
	}
	sort.Strings(r.found.Got)
	if err := r.subscribe(ctx, arn, listed.Shards, counts); err != nil {
		return err
	}
	_, err = r.client.DescribeStream(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("none")})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		r.found.Refused = missing.ErrorCode()
	}
	_, err = r.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: aws.String("none")})
	var invalid *types.InvalidArgumentException
	if errors.As(err, &invalid) {
		r.found.Invalid = invalid.ErrorCode()
	}
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: kinesis ENDPOINT STREAM")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	watch := &watching{base: awshttp.NewBuildableClient(), protocols: map[string]bool{}}
	client := kinesis.New(kinesis.Options{
		Region:           "us-east-1",
		EndpointResolver: kinesis.EndpointResolverFromURL(os.Args[1]),
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"),
			os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")),
		HTTPClient: watch,
		Retryer:    aws.NopRetryer{},
	})
	r := &run{client: client, stream: os.Args[2]}
	if err := r.all(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for protocol := range watch.protocols {
		r.found.Protocols = append(r.found.Protocols, protocol)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r.found); err != nil {
		os.Exit(1)
	}
}
