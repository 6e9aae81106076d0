package config

import (
	"fmt"
	"reflect"
)

// put stores a value in the typed field of its option.
func (o *Option) put(s *settings, v value) {
	if o.field == nil {
		return
	}
	f := reflect.ValueOf(o.field(s)).Elem()
	switch {
	case o.Kind == Flag && f.Kind() == reflect.Bool:
		f.SetBool(v.n != 0)
	case o.Kind == Number && f.CanInt():
		f.SetInt(v.n * o.Unit.scale)
	case (o.Kind == Word || o.Kind == Text) && f.Kind() == reflect.String:
		f.SetString(v.text)
	case o.Kind == List && f.Kind() == reflect.Slice:
		f.Set(reflect.ValueOf(v.names))
	default:
		panic(fmt.Sprintf("config: the field of %s cannot hold it", o.Name))
	}
}

// get is the value that put stored.
func (o *Option) get(s *settings) value {
	f := reflect.ValueOf(o.field(s)).Elem()
	switch o.Kind {
	case Flag:
		if f.Bool() {
			return value{n: 1}
		}
		return value{}
	case Number:
		return value{n: f.Int() / o.Unit.scale}
	case List:
		return value{names: f.Interface().([]string)}
	default:
		return value{text: f.String()}
	}
}

// defaults is every section as nobody wrote it.
func defaults() settings {
	var s settings
	for _, o := range table {
		if o.Kind != Legacy {
			o.put(&s, o.initial())
		}
	}
	return s
}
