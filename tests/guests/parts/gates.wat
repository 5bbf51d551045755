  (import "cantrip:guest/gates@0.1.0" (instance $gates
    (export "names" (func (result (list string))))
    (alias outer 1 $error (type $error''))
    (export "error" (type $error (eq $error'')))
    (export "call" (func (param "name" string) (param "arguments" string) (result (result string (error $error)))))))
