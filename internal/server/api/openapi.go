package api

import (
	"net/http"
	"reflect"
	"strings"
)

// object is a JSON object; its keys are written in order.
type object = map[string]any

// OpenAPI describes all calls of the table as a document of OpenAPI 3.1.
func (t *Table) OpenAPI(title, version string) any {
	d := document{schemas: object{}}
	paths := object{}
	for _, c := range t.calls {
		item, ok := paths[c.Path].(object)
		if !ok {
			item = object{}
			paths[c.Path] = item
		}
		item[strings.ToLower(c.Method)] = d.operation(c)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": title, "version": version,
			"description": "Answers are {\"data\": ...}. An error is its status with a sentence as the body. " +
				"Calls other than GET take parameters as JSON or as a form.",
		},
		"servers":  []any{object{"url": "/api2/json"}},
		"security": []any{object{"ticket": []any{}}, object{"ticket": []any{}, "csrf": []any{}}, object{"token": []any{}}},
		"paths":    paths,
		"components": object{
			"schemas": d.schemas,
			"securitySchemes": object{
				"ticket": object{"type": "apiKey", "in": "cookie", "name": "PBSAuthCookie", "description": "The ticket of POST /access/ticket."},
				"csrf":   object{"type": "apiKey", "in": "header", "name": "CSRFPreventionToken", "description": "Beside a ticket, for all methods but GET."},
				"token":  object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "PBSAPIToken <user>@<realm>!<name>:<secret>"},
			},
			"responses": object{
				"error": object{
					"description": "An error, as a sentence.",
					"content":     object{"application/json": object{"schema": object{"type": "string"}}},
				},
			},
		},
	}
}

// document collects what operations refer to.
type document struct{ schemas object }

func (d *document) operation(c *Call) object {
	op := object{
		"summary":     c.Doc,
		"description": c.Guard.Rule(),
		"operationId": operationID(c),
		"tags":        []any{strings.SplitN(strings.TrimPrefix(c.Path, "/"), "/", 2)[0]},
		"responses":   object{"200": d.answer(c), "default": object{"$ref": "#/components/responses/error"}},
	}
	if !c.NeedsLogin() {
		op["security"] = []any{}
	}
	inQuery := c.Method == http.MethodGet || c.Method == http.MethodDelete || c.Do.body
	var params []any
	form, required := object{}, []any{}
	for _, p := range c.Params {
		s := p.Spec()
		if isVariable(c, s.Name) || inQuery {
			params = append(params, parameter(c, s))
			continue
		}
		form[s.Name] = schemaOf(s)
		if !s.Optional {
			required = append(required, s.Name)
		}
	}
	if params != nil {
		op["parameters"] = params
	}
	switch {
	case c.Do.body:
		op["requestBody"] = object{"required": true, "content": object{"application/octet-stream": object{"schema": object{"type": "string", "format": "binary"}}}}
	case len(form) > 0:
		schema := object{"type": "object", "properties": form, "additionalProperties": c.Others}
		if len(required) > 0 {
			schema["required"] = required
		}
		content := object{"schema": schema}
		op["requestBody"] = object{
			"required": len(required) > 0,
			"content":  object{"application/json": content, "application/x-www-form-urlencoded": content},
		}
	}
	return op
}

func parameter(c *Call, s Spec) object {
	p := object{"name": s.Name, "in": "query", "description": s.Doc, "required": !s.Optional, "schema": schemaOf(s)}
	if isVariable(c, s.Name) {
		p["in"], p["required"] = "path", true
	}
	return p
}

// schemaOf describes the values of a parameter.
func schemaOf(s Spec) object {
	o := object{"type": string(s.Type)}
	switch s.Type {
	case TypeInteger:
		o["minimum"], o["maximum"] = s.Min, s.Max
	case TypeText:
		if s.Max > 0 && s.OneOf == nil {
			o["maxLength"] = s.Max
		}
		if s.Pattern != "" {
			o["pattern"] = "^(?:" + s.Pattern + ")$"
		}
		if s.OneOf != nil {
			o["enum"] = s.OneOf
		}
	}
	if s.List {
		o = object{"type": "array", "items": o}
	}
	if s.Doc != "" {
		o["description"] = s.Doc
	}
	if s.Default != nil {
		o["default"] = s.Default
	}
	return o
}

func (d *document) answer(c *Call) object {
	if c.Do.serve != nil && c.Do.result == nil {
		return object{
			"description": "The data.",
			"content":     object{c.Do.media: object{"schema": object{"type": "string", "format": "binary"}}},
		}
	}
	data := object{"type": "null"}
	if c.Do.result != nil {
		data = d.schema(c.Do.result)
	}
	return object{
		"description": "Done.",
		"content": object{"application/json": object{"schema": object{
			"type": "object", "required": []any{"data"}, "properties": object{"data": data},
		}}},
	}
}

// schema describes the JSON of a type.
func (d *document) schema(t reflect.Type) object {
	switch t.Kind() {
	case reflect.Pointer:
		o := d.schema(t.Elem())
		return object{"oneOf": []any{o, object{"type": "null"}}}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Struct:
		name := t.Name()
		if name == "" {
			return d.fields(t)
		}
		if _, known := d.schemas[name]; !known {
			d.schemas[name] = nil // for types that hold themselves
			d.schemas[name] = d.fields(t)
		}
		return object{"$ref": "#/components/schemas/" + name}
	}
	return object{}
}

// fields describes a struct.
func (d *document) fields(t reflect.Type) object {
	properties, required := object{}, []any{}
	for _, f := range reflect.VisibleFields(t) {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" || !f.IsExported() || tag == "-" {
			continue
		}
		if tag == "" {
			tag = f.Name
		}
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		ft := f.Type
		if optional && ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		o := d.schema(ft)
		if doc := f.Tag.Get("doc"); doc != "" {
			o["description"] = doc
		}
		properties[tag] = o
		if !optional {
			required = append(required, tag)
		}
	}
	o := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

// operationID is a name for generated code: getAdminDatastoreSnapshots.
func operationID(c *Call) string {
	var b strings.Builder
	b.WriteString(strings.ToLower(c.Method))
	for _, word := range strings.FieldsFunc(c.Path, func(r rune) bool { return strings.ContainsRune("/{}-.", r) }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
