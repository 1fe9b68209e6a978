// Command calls uses an SDK service with dubbo-go and prints one line of JSON a call.
// calls HOST:PORT
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	_ "dubbo.apache.org/dubbo-go/v3/cluster/cluster/failover"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/loadbalance/random"
	"dubbo.apache.org/dubbo-go/v3/config"
	_ "dubbo.apache.org/dubbo-go/v3/filter/graceful_shutdown"
	_ "dubbo.apache.org/dubbo-go/v3/protocol/dubbo"
	_ "dubbo.apache.org/dubbo-go/v3/proxy/proxy_factory"
	_ "dubbo.apache.org/dubbo-go/v3/registry/directory"
	_ "dubbo.apache.org/dubbo-go/v3/registry/protocol"
)

const service = "org.dragoman.interop.Types"

// Types is the service, as far as it is called here.
type Types struct {
	Text            func(context.Context, string) (string, error)   `dubbo:"text"`
	PrimitiveInt    func(context.Context, int32) (int32, error)     `dubbo:"primitiveInt"`
	PrimitiveLong   func(context.Context, int64) (int64, error)     `dubbo:"primitiveLong"`
	PrimitiveDouble func(context.Context, float64) (float64, error) `dubbo:"primitiveDouble"`
	PrimitiveBool   func(context.Context, bool) (bool, error)       `dubbo:"primitiveBoolean"`
	Bytes           func(context.Context, []byte) ([]byte, error)   `dubbo:"bytes"`
	NoArguments     func(context.Context) (string, error)           `dubbo:"noArguments"`
	Fail            func(context.Context, string) (string, error)   `dubbo:"fail"`
}

func say(name string, got any, err error, expected any) {
	pass := err == nil && reflect.DeepEqual(got, expected)
	if expected == nil {
		pass = err != nil && strings.Contains(err.Error(), "broken")
	}
	why := ""
	if !pass {
		why = fmt.Sprint(got, " ", err)
	}
	line, _ := json.Marshal(map[string]any{"name": name, "pass": pass, "why": why})
	fmt.Println(string(line))
}

func main() {
	types := &Types{}
	config.SetConsumerService(types)
	reference := config.NewReferenceConfigBuilder().
		SetInterface(service).SetURL("dubbo://" + os.Args[1]).SetProtocol("dubbo").Build()
	consumer := config.NewConsumerConfigBuilder().AddReference("Types", reference).Build()
	root := config.NewRootConfigBuilder().SetConsumer(consumer).Build()
	if err := config.Load(config.WithRootConfig(root)); err != nil {
		panic(err)
	}
	ctx := context.Background()
	text, err := types.Text(ctx, "héllo 中")
	say("text", text, err, "héllo 中")
	whole, err := types.PrimitiveInt(ctx, 70000)
	say("primitiveInt", whole, err, int32(70000))
	long, err := types.PrimitiveLong(ctx, 5)
	say("primitiveLong", long, err, int64(5))
	double, err := types.PrimitiveDouble(ctx, 0.25)
	say("primitiveDouble", double, err, 0.25)
	yes, err := types.PrimitiveBool(ctx, true)
	say("primitiveBoolean", yes, err, true)
	bytes, err := types.Bytes(ctx, []byte{0, 255})
	say("bytes", bytes, err, []byte{0, 255})
	nothing, err := types.NoArguments(ctx)
	say("noArguments", nothing, err, "no arguments")
	failed, err := types.Fail(ctx, "broken")
	say("fail", failed, err, nil)
}
