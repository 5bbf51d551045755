;; Breaks down in its first step.
(component
  {{types}}
  {{libc}}
  (type $turn' (record (field "number" u64) (field "intent" string) (field "heard" (list string))))
  (import "turn" (type $turn (eq $turn')))
  (type $progress' (variant (case "more") (case "finished" string)))
  (import "progress" (type $progress (eq $progress')))
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "step") (param i64 i32 i32 i32 i32) (result i32) (unreachable)))
  (core instance $main (instantiate $main' (with "libc" (instance $libc))))
  (alias core export $main "step" (core func $step'))
  (func $step (param "turn" $turn) (result (result $progress (error $error)))
    (canon lift (core func $step') (memory $memory) (realloc $realloc)))
  (export "step" (func $step))
)
