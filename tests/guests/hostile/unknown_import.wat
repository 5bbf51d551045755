;; Imports something that no runtime of ours has.
(component
  {{types}}
  (import "acme:shell/execute@1.0.0" (instance $shell (export "run" (func (param "command" string) (result string)))))
  {{libc}}
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  {{only_run}}
)
