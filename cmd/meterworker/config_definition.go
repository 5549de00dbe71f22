package main

import (
	"reflect"
	"strings"
)

// definition is one setting, read from the tags of its field in Settings.
type definition struct {
	Name       string // flag and key in the file
	Variable   string
	Preset     string // the text that counts when nobody gives one
	PresetText string // how the preset is described where it depends
	Choices    []string
	Help       string
	Group      string
	Secret     bool // environment only
	URL        bool // may hold a user and a password
}

// definitions lists the settings in the order of Settings; --config itself is
// not one of them.
func definitions() []definition {
	var all []definition
	walkSettings(reflect.ValueOf(Settings{}), "", func(field reflect.StructField, group string, _ reflect.Value) {
		if field.Tag.Get("variable") != "" {
			all = append(all, define(field, group))
		}
	})
	return all
}

func define(field reflect.StructField, group string) definition {
	tag := field.Tag
	return definition{
		Name:       tag.Get("name"),
		Variable:   tag.Get("variable"),
		Preset:     tag.Get("preset"),
		PresetText: tag.Get("presettext"),
		Choices:    splitChoices(tag.Get("choices")),
		Help:       tag.Get("help"),
		Group:      group,
		URL:        tag.Get("holds") == "url",
		Secret:     field.Type == reflect.TypeFor[environmentOnly](),
	}
}

func splitChoices(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// Default is the preset as people read it; empty when there is none.
func (d definition) Default() string {
	if d.PresetText != "" {
		return d.PresetText
	}
	return d.Preset
}

// walkSettings visits the fields of a struct of settings and of the groups that
// it embeds; other fields, such as a command's own flags, pass by as well.
func walkSettings(v reflect.Value, group string, visit func(reflect.StructField, string, reflect.Value)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.Anonymous || field.Type.Kind() != reflect.Struct {
			visit(field, group, v.Field(i))
			continue
		}
		inner := field.Tag.Get("group")
		if inner == "" {
			inner = group
		}
		walkSettings(v.Field(i), inner, visit)
	}
}

// givenFlags is the text of every setting whose flag stood on the command line,
// by name, "config" included. flags points to a struct that embeds Settings or
// some of its groups.
func givenFlags(flags any) map[string]string {
	given := map[string]string{}
	walkSettings(reflect.ValueOf(flags).Elem(), "", func(field reflect.StructField, _ string, v reflect.Value) {
		isSetting := field.Tag.Get("variable") != "" || field.Name == "Config"
		if text, ok := reflect.TypeAssert[*string](v); ok && text != nil && isSetting {
			given[field.Tag.Get("name")] = *text
		}
	})
	return given
}
