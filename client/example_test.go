package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/crier-im/crier"
	"github.com/crier-im/crier/client"
)

// A back end reaches everyone with a tag, and keeps the message for a day for who is not online.
func ExampleClient_Push() {
	ctx := context.Background()
	c, err := client.New("https://push.example.com", 1400000001, "administrator", client.SecretKey("the app's secret key"))
	if err != nil {
		log.Fatal(err)
	}
	task, err := c.Push(ctx, client.Push{
		Text: "The sale has begun", LifeTime: 24 * time.Hour,
		Condition: crier.ConditionSpec{TagsOr: []string{"shoes"}},
	})
	if errors.Is(err, crier.CodePushOff) {
		log.Fatal("push is not enabled for the app")
	}
	if err != nil {
		log.Fatal(err)
	}
	reports, err := c.Report(ctx, task)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d of %d\n", reports[0].Finished, reports[0].Total)
}

// A device shows what arrives until it is stopped. Its UserSig comes from the app's own back end.
func ExampleListen() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := client.Listen(ctx, client.ListenConfig{
		URL: "https://push.example.com", SDKAppID: 1400000001, UserID: "alice",
		UserSig: func(ctx context.Context, _ crier.AppID, user crier.UserID) (string, error) {
			return askOwnBackEnd(ctx, user)
		},
		Platform: crier.Android,
		OnMessage: func(_ context.Context, m *client.Message) error {
			fmt.Printf("%s: %s\n", m.From, m.Notification.Text)
			return nil // shown: it is acknowledged and does not come again
		},
	})
	var closed *client.CloseError
	if errors.As(err, &closed) && closed.Reason == crier.CloseReplaced {
		fmt.Println("you have logged in elsewhere")
	}
}

// A phone is notified by its vendor while the app is away, until its user logs out.
func ExampleNewListener() {
	l, err := client.NewListener(client.ListenConfig{
		URL: "https://push.example.com", SDKAppID: 1400000001, UserID: "alice", UserSig: client.UserSig("a UserSig"), Platform: crier.Android,
		Device: &client.Device{Vendor: crier.FCM, Token: "the token of this phone", Target: "my-project", Language: "zh-Hans"},
		OnDevice: func(err error) {
			if err != nil {
				fmt.Println("no notifications while the app is away:", err)
			}
		},
		OnMessage: func(context.Context, *client.Message) error { return nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() { // the app tells, from wherever it is
		l.Background(3)
		l.Foreground()
		l.Logout()
	}()
	if err := l.Run(context.Background()); err == nil {
		fmt.Println("logged out")
	}
}

func askOwnBackEnd(context.Context, crier.UserID) (string, error) { return "a UserSig", nil }
