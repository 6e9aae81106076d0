package main

import (
	"context"
	"errors"
)

func pair(ctx context.Context, o *options) error { return errors.New("pair") }
