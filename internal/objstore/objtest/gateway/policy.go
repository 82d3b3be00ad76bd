package gateway

import (
	"encoding/json"
	"strings"
)

// policy lets one user do these things in a bucket and with its objects.
func policy(user, bucket string, actions []string) string {
	type statement struct {
		Effect    string
		Principal map[string][]string
		Action    []string
		Resource  string
	}
	arn := "arn:aws:s3:::" + bucket
	of := map[string][]string{}
	for _, a := range actions {
		if strings.HasSuffix(a, "Object") || strings.HasSuffix(a, "Retention") || strings.HasSuffix(a, "Object*") {
			of[arn+"/*"] = append(of[arn+"/*"], a)
		} else {
			of[arn] = append(of[arn], a)
		}
	}
	var list []statement
	for resource, actions := range of {
		list = append(list, statement{"Allow", map[string][]string{"AWS": {user}}, actions, resource})
	}
	b, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": list})
	if err != nil {
		panic(err) // strings and maps of them
	}
	return string(b)
}
