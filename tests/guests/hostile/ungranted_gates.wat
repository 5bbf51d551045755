;; Imports two gates that its circle does not hold.
(component
  {{types}}
  {{read_file}}
  (import "cantrip:guest/llm@0.1.0" (instance $llm
        (export "query" (func (param "question" string) (result string)))))
  {{libc}}
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  {{only_run}}
)
