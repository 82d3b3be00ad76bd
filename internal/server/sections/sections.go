// Package sections makes parameters of calls from what sections of configuration
// files can say (package property), so that a call knows of a property as soon as
// its file does.
package sections

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// field is a property of a configuration file as a parameter of a call.
type field struct {
	key   string
	param api.AnyParam
	given func(*api.Request) ([]string, bool)
}

// Fields are the parameters of a call for what a section can say.
type Fields []field

// Of makes the parameters. fresh says that the call makes the section, so that what is
// needed must be given.
func Of(known []property.Property, fresh bool) Fields {
	var list Fields
	for _, p := range known {
		list = append(list, fieldOf(p, fresh && p.Needed))
	}
	return list
}

// maxValue bounds the text of a property, in bytes: the body of a webhook is one.
const maxValue = 64 << 10

func fieldOf(p property.Property, needed bool) field {
	doc := Sentence(p.Help)
	switch {
	case p.Many:
		list := api.List(textOf(p, doc))
		return field{p.Key, list, func(r *api.Request) ([]string, bool) { return list.Given(r) }}
	case p.Type == property.Number:
		return single(api.Int(p.Key, doc, p.Low, p.High), needed, func(n int64) string { return strconv.FormatInt(n, 10) })
	case p.Type == property.Flag:
		return single(api.Bool(p.Key, doc), needed, strconv.FormatBool)
	case p.OneOf != nil:
		return single(api.Choice(p.Key, doc, p.OneOf...), needed, func(s string) string { return s })
	}
	return single(textOf(p, doc), needed, strings.TrimSpace)
}

// textOf is a text that the property accepts, or none at all.
func textOf(p property.Property, doc string) api.Param[string] {
	return api.Parsed(p.Key, doc, "", maxValue, func(s string) (string, error) {
		if s == "" && !p.Needed {
			return s, nil
		}
		return s, p.Check(s)
	})
}

func single[T any](param api.Param[T], needed bool, text func(T) string) field {
	key := param.Spec().Name
	if !needed {
		param = param.Optional()
	}
	return field{key, param, func(r *api.Request) ([]string, bool) {
		v, ok := param.Given(r)
		if !ok {
			return nil, false
		}
		if s := text(v); s != "" {
			return []string{s}, true
		}
		return nil, true // an empty text removes it
	}}
}

// Sentence makes one of the help of a flag.
func Sentence(help string) string {
	first, size := rune(help[0]), 1
	return string(unicode.ToUpper(first)) + strings.TrimSuffix(help[size:], ".") + "."
}

// Params are the parameters for the table of calls.
func (f Fields) Params() (list []api.AnyParam) {
	for _, one := range f {
		list = append(list, one.param)
	}
	return list
}

// Keys are the names of the properties.
func (f Fields) Keys() (list []string) {
	for _, one := range f {
		list = append(list, one.key)
	}
	return list
}

// Removal is the parameter with the names of properties that are removed.
func (f Fields) Removal() api.Param[[]string] {
	return api.List(api.Choice("delete", "Properties that are removed.", f.Keys()...))
}

// Values are what a request gives.
func (f Fields) Values(r *api.Request) property.Values {
	v := property.Values{}
	for _, one := range f {
		if texts, ok := one.given(r); ok {
			v[one.key] = texts
		}
	}
	return v
}

// Merged are values and removals; what is given is not removed.
func Merged(v property.Values, remove []string) property.Values {
	for _, key := range remove {
		if _, given := v[key]; !given {
			v[key] = nil
		}
	}
	return v
}
